mod clients;
mod diurnal;
mod file;
mod trace;
