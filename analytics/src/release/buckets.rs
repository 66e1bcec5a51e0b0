//! Buckets of latencies and of memory: four an octave, so that a bound is off by at most 19 %.

/// Buckets of a latency: up to 10 microseconds, and so on to about 9 s; the last holds all that is longer.
pub const LATENCIES: usize = 80;
/// Buckets of a memory: up to 64 KiB, and so on to about 55 GiB; the last holds all that is more.
pub const MEMORIES: usize = 80;

/// 10 microseconds times 2^(i/4), in nanoseconds.
const FIRST_NS: [u64; 4] = [10_000, 11_892, 14_142, 16_818];
/// 64 KiB times 2^(i/4), in bytes.
const FIRST_BYTES: [u64; 4] = [65_536, 77_936, 92_682, 110_218];

fn bound(first: [u64; 4], bucket: usize) -> u64 {
    first[bucket % 4] << (bucket / 4).min(40)
}

/// The longest time of a bucket, in nanoseconds; of the last one nothing is known but that it is longer than the one before.
pub fn latency_bound_ns(bucket: usize) -> u64 {
    bound(FIRST_NS, bucket)
}

/// The bucket of a time.
pub fn latency_bucket(ns: u64) -> usize {
    (0..LATENCIES - 1)
        .find(|&bucket| ns <= latency_bound_ns(bucket))
        .unwrap_or(LATENCIES - 1)
}

/// The most memory of a bucket, in bytes; of the last one nothing is known but that it is more than the one before.
pub fn memory_bound_bytes(bucket: usize) -> u64 {
    bound(FIRST_BYTES, bucket)
}

/// The bucket of a memory.
pub fn memory_bucket(bytes: u64) -> usize {
    (0..MEMORIES - 1)
        .find(|&bucket| bytes <= memory_bound_bytes(bucket))
        .unwrap_or(MEMORIES - 1)
}

/// The first bucket with which `share` of all counts are reached; `None` without counts.
pub(super) fn reached(counts: &[u64], share: f64) -> Option<usize> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = (share * all as f64).ceil().max(1.0) as u64;
    let mut before = 0;
    counts.iter().position(|count| {
        before += count;
        before >= wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_put_each_value_into_the_first_bucket_that_holds_it() {
        for (ns, bucket) in [(0, 0), (10_000, 0), (10_001, 1), (20_000, 4), (20_001, 5), (u64::MAX, 79)] {
            assert_eq!(latency_bucket(ns), bucket, "{ns} ns");
        }
        for (bytes, bucket) in [(0, 0), (65_536, 0), (65_537, 1), (1 << 20, 16), (1 << 30, 56), (u64::MAX, 79)] {
            assert_eq!(memory_bucket(bytes), bucket, "{bytes} bytes");
        }
        for bucket in 1..LATENCIES {
            assert!(latency_bound_ns(bucket) > latency_bound_ns(bucket - 1) && memory_bound_bytes(bucket) > memory_bound_bytes(bucket - 1));
            let step = latency_bound_ns(bucket) as f64 / latency_bound_ns(bucket - 1) as f64;
            assert!(step < 1.1893, "{bucket}: {step}");
        }
    }

    #[test]
    fn should_find_the_bucket_of_a_percentile() {
        assert_eq!(reached(&[], 0.5), None);
        assert_eq!(reached(&[0, 0], 0.5), None);
        assert_eq!(reached(&[1, 0, 1], 0.5), Some(0));
        assert_eq!(reached(&[1, 0, 1], 0.51), Some(2));
        assert_eq!(reached(&[95, 5], 0.95), Some(0));
        assert_eq!(reached(&[94, 6], 0.95), Some(1));
        assert_eq!(reached(&[0, 3], 0.0), Some(1));
        assert_eq!(reached(&[0, 3], 1.0), Some(1));
    }
}
