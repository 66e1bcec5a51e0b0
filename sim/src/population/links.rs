//! How long bytes take.

use super::LinkClass;

/// Payload of a packet, in bits: what QUIC finds on most paths.
const PACKET_BITS: f64 = 1400.0 * 8.0;

/// Latency once, then the bytes and what of them is lost, at the smaller of the link's bandwidth and the rate that a loss-driven congestion
/// control finds: packet / round trip * sqrt(3/2) / sqrt(loss), Mathis, Semke, Mahdavi and Ott 1997, equation 3.
pub(super) fn transfer_ms(class: &LinkClass, latency_ms: u64, bytes: u64, up: bool) -> u64 {
    let bandwidth = 1e6 * if up { class.up_mbps } else { class.down_mbps };
    let round_trip_s = (2 * latency_ms).max(1) as f64 / 1000.0;
    // Without loss it is infinite, and the bandwidth holds.
    let found = PACKET_BITS / round_trip_s * 1.5_f64.sqrt() / class.loss.sqrt();
    let bits = bytes as f64 * 8.0 / (1.0 - class.loss);
    // More than u64::MAX stays there.
    latency_ms.saturating_add((bits / bandwidth.min(found) * 1000.0).ceil() as u64)
}
