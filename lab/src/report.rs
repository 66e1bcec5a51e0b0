//! What is left of a run: its folder, and the formats in it. Formats are functions from rows to bytes; files are [`RunFolder`]'s alone.

mod columns;
pub(crate) mod csv;
mod folder;
mod html;
mod parquet;
mod statistics;
mod tensorboard;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub use csv::csv;
pub use folder::{FolderError, Input, RoundLog, RunFolder, State, write_whole};
pub use html::{DRAWN_SETTINGS, Page, Run, drawn, html};
pub use parquet::parquet;
pub use tensorboard::{EVENTS_FILE, tensorboard};
