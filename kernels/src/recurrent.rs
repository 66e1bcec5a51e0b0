//! LSTM and GRU over sequences.
