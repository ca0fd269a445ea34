"""Where bytes lie: locations, stores and the chunks that are read from them or written there."""
