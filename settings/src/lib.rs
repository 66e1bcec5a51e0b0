//! Layered settings: defaults, file, environment, flags, and where each value came from.
//!
//! The result is one serde struct (with `deny_unknown_fields`). Later layers win: defaults, then a TOML file, then environment
//! variables, then flags. This crate is pure: it reads no file and no environment, it is given their contents.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     listen: String,
//!     policy: Policy,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Policy {
//!     allow_plain: bool,
//! }
//!
//! # fn main() -> Result<(), aimass_settings::SettingsError> {
//! let defaults = Settings { listen: "127.0.0.1:7700".into(), policy: Policy { allow_plain: false } };
//! let variables = [("AIMASS_DEVICE_POLICY_ALLOW_PLAIN".to_owned(), "true".to_owned())];
//! let resolved = aimass_settings::Layers::new(&defaults)?
//!     .file("device.toml", "listen = \"127.0.0.1:1\"\n")?
//!     .environment("AIMASS_DEVICE_", variables)?
//!     .flag("listen", "--listen", "127.0.0.1:2")?
//!     .resolve::<Settings>()?;
//! assert!(resolved.value.policy.allow_plain);
//! assert_eq!(resolved.value.listen, "127.0.0.1:2");
//! assert_eq!(resolved.origins[0].to_string(), "listen = \"127.0.0.1:2\" (flag --listen)");
//! # Ok(())
//! # }
//! ```

mod error;
mod file;
mod layers;
mod origin;
#[cfg(test)]
mod tests;
mod text;
mod tree;

pub use error::SettingsError;
pub use layers::Layers;
pub use origin::{Origin, Resolved, Setting};
