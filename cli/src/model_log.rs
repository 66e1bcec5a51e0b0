//! The log of models as an auditor reads it: whose it is, as a file, and whether it holds. Nothing here asks a server.

pub(crate) mod audit;
pub(crate) mod export;
pub(crate) mod key;
