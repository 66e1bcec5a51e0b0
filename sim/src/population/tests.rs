mod clients;
mod diurnal;
mod docs;
mod file;
mod trace;
