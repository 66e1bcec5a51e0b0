//! Which variant a device takes.

use aimass_protocol::job::{FitsSection, ReleaseSection};

/// What a device is, as far as variants ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its class.
    pub class: String,
    /// Main memory in bytes; 0 when unknown, which is none.
    pub memory_bytes: u64,
    /// Logical processors.
    pub cores: u32,
    /// Whether it has a GPU that its owner lets models run on.
    pub gpu: bool,
}

impl Device {
    /// Whether a variant is for it.
    pub fn fits(&self, asked: &FitsSection) -> bool {
        (asked.device_classes.is_empty() || asked.device_classes.contains(&self.class))
            && self.memory_bytes >= u64::from(asked.memory_mib) << 20
            && self.cores >= asked.cores
            && (self.gpu || !asked.gpu)
    }
}

/// Index of the variant that a device takes: the first that is for it.
pub fn fit(release: &ReleaseSection, device: &Device) -> Option<usize> {
    release.variants.iter().position(|variant| device.fits(&variant.fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::shape::tests::example;

    #[test]
    fn should_take_the_first_variant_that_is_for_the_device() {
        let mut release = example();
        let device = |memory_mib: u64, cores| Device {
            class: "gateway".to_owned(),
            memory_bytes: memory_mib << 20,
            cores,
            gpu: false,
        };
        assert_eq!(fit(&release, &device(2048, 2)), Some(0));
        assert_eq!(fit(&release, &device(2047, 2)), Some(1), "too little memory");
        assert_eq!(fit(&release, &device(4096, 1)), Some(1), "too few cores");
        assert_eq!(fit(&release, &device(0, 0)), Some(1), "the other asks for nothing");
        release.variants[1].fits.device_classes = vec!["phone".to_owned()];
        assert_eq!(fit(&release, &device(0, 0)), None);
        release.variants[0].fits.gpu = true;
        assert_eq!(fit(&release, &device(4096, 8)), None, "it has no GPU");
        let with_gpu = Device {
            gpu: true,
            ..device(4096, 8)
        };
        assert_eq!(fit(&release, &with_gpu), Some(0));
    }
}
