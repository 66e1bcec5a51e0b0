//! Batch normalisation over channels.
