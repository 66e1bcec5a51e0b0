//! A real authority and a real aggregator on loopback QUIC, with devices that are scripted by hand.

mod access;
mod deployment;
mod device;
mod disk;
mod log;
mod restart;
mod rounds;
mod submission;
mod transcript;
mod uploads;
