//! Models served on the device: the Open Inference Protocol (v2, REST) over TCP and Unix sockets, batches, windows, swaps.
//!
//! A [`Host`] holds models by name and version and computes on threads of its own; [`serve`] answers HTTP for it. Requests that wait for the same model
//! are joined along the first axis ([`queue`]); a long input is cut into windows that are computed in parallel ([`windows`]); a model is swapped
//! without a dropped request ([`ModelSlot`]), by hand or when its file changes ([`Watcher`]).

mod error;
mod host;
mod http;
mod metrics;
pub mod protocol;
pub mod queue;
mod slot;
mod watch;
pub mod windows;

pub use error::{HostError, ServeError};
pub use host::{Answer, Host, HostConfig, Request};
pub use http::{Endpoints, ListenError, serve};
pub use slot::{ModelSlot, Version};
pub use watch::{Watched, Watcher, WatcherHandle};
