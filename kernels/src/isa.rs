//! Which instructions the processor has.

use std::fmt;
use std::sync::OnceLock;

use crate::vector::{Portable, Vector};

/// A set of vector instructions that this processor has: there is no other way to get one than to ask for it here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Isa {
    /// Plain Rust, which runs anywhere.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// All that the processor has, the slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![Self::PORTABLE];
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self(Kind::Neon));
        }
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            if avx2 {
                found.push(Self(Kind::Avx2));
            }
            let avx512 = std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                found.push(Self(Kind::Avx512));
            }
        }
        found
    }

    /// The fastest that the processor has. The variable `AIMASS_CPU_ISA` (`portable`, `avx2`, `avx512`, `neon`) asks for another one,
    /// where the processor has it: for comparisons. Settled at the first call of the process.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let found = Self::available();
            let wanted = std::env::var("AIMASS_CPU_ISA").unwrap_or_default();
            let chosen = found.iter().find(|isa| isa.name() == wanted).or(found.last());
            chosen.copied().unwrap_or(Self::PORTABLE)
        })
    }

    /// Its name, as `AIMASS_CPU_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Floats in one of its registers. Rows whose length is a multiple of 16 fit all of them.
    pub fn lanes(self) -> usize {
        match self.0 {
            Kind::Portable => Portable::LANES,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => crate::vector::Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => crate::vector::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => crate::vector::Avx512::LANES,
        }
    }
}

impl Isa {
    /// Registers that it has.
    pub(crate) fn registers(self) -> usize {
        struct Registers;
        impl Kernel for Registers {
            type Output = usize;

            #[inline(always)]
            unsafe fn run<V: Vector>(self) -> usize {
                V::REGISTERS
            }
        }
        // SAFETY: it reads nothing.
        unsafe { dispatch(self, Registers) }
    }
}

/// Work that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What comes out.
    type Output;

    /// Does it. Marked `#[inline(always)]` wherever it is written, as everything that it calls with `V`: only then is it compiled with
    /// the instructions of `V`.
    ///
    /// # Safety
    /// The processor has the instructions of `V`, and what the kernel itself asks for is true.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`.
///
/// # Safety
/// What the kernel asks for is true. That the processor has the instructions follows from `isa`.
pub(crate) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    unsafe fn neon<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<crate::vector::Neon>()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<crate::vector::Avx2>()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<crate::vector::Avx512>()
    }
    match isa.0 {
        Kind::Portable => kernel.run::<Portable>(),
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => neon(kernel),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => avx2(kernel),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => avx512(kernel),
    }
}
