//! One register of whole numbers of 32 bits.

/// A register of `u32`. Functions that are generic over it are `#[inline(always)]`.
///
/// # Safety
/// As for [`super::Vector`]; pointers are good for [`Self::LANES`] words.
pub(crate) trait Words: Copy {
    /// Words in it.
    const LANES: usize;

    unsafe fn splat(x: u32) -> Self;
    unsafe fn load(from: *const u32) -> Self;
    unsafe fn store(self, to: *mut u32);
    /// Modulo 2^32.
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn xor(self, b: Self) -> Self;
    unsafe fn and(self, b: Self) -> Self;
    unsafe fn shift_right<const N: i32>(self) -> Self;
    /// To the left by `LEFT`; `RIGHT` is 32 - `LEFT`.
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self;
}

/// Plain Rust, four lanes.
#[derive(Clone, Copy)]
pub(crate) struct Four([u32; 4]);

impl Words for Four {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: u32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        Self(from.cast::<[u32; 4]>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        to.cast::<[u32; 4]>().write_unaligned(self.0);
    }
    #[inline(always)]
    unsafe fn add(mut self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] = self.0[i].wrapping_add(b.0[i]);
        }
        self
    }
    #[inline(always)]
    unsafe fn sub(mut self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] = self.0[i].wrapping_sub(b.0[i]);
        }
        self
    }
    #[inline(always)]
    unsafe fn and(mut self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] &= b.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn shift_right<const N: i32>(mut self) -> Self {
        for i in 0..4 {
            self.0[i] >>= N;
        }
        self
    }
    #[inline(always)]
    unsafe fn xor(mut self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] ^= b.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(mut self) -> Self {
        for i in 0..4 {
            self.0[i] = self.0[i].rotate_left(LEFT as u32);
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Words;

    impl Words for __m256i {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: u32) -> Self {
            _mm256_set1_epi32(x as i32)
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> Self {
            _mm256_loadu_si256(from.cast())
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut u32) {
            _mm256_storeu_si256(to.cast(), self);
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            _mm256_add_epi32(self, b)
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            _mm256_sub_epi32(self, b)
        }
        #[inline(always)]
        unsafe fn and(self, b: Self) -> Self {
            _mm256_and_si256(self, b)
        }
        #[inline(always)]
        unsafe fn shift_right<const N: i32>(self) -> Self {
            _mm256_srl_epi32(self, _mm_cvtsi32_si128(N))
        }
        #[inline(always)]
        unsafe fn xor(self, b: Self) -> Self {
            _mm256_xor_si256(self, b)
        }
        #[inline(always)]
        unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            // Whole bytes are moved in one instruction.
            match LEFT {
                16 => {
                    let places = _mm_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
                    _mm256_shuffle_epi8(self, _mm256_broadcastsi128_si256(places))
                }
                8 => {
                    let places = _mm_setr_epi8(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);
                    _mm256_shuffle_epi8(self, _mm256_broadcastsi128_si256(places))
                }
                _ => _mm256_or_si256(_mm256_slli_epi32::<LEFT>(self), _mm256_srli_epi32::<RIGHT>(self)),
            }
        }
    }

    impl Words for __m512i {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: u32) -> Self {
            _mm512_set1_epi32(x as i32)
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> Self {
            _mm512_loadu_si512(from.cast())
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut u32) {
            _mm512_storeu_si512(to.cast(), self);
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            _mm512_add_epi32(self, b)
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            _mm512_sub_epi32(self, b)
        }
        #[inline(always)]
        unsafe fn and(self, b: Self) -> Self {
            _mm512_and_si512(self, b)
        }
        #[inline(always)]
        unsafe fn shift_right<const N: i32>(self) -> Self {
            _mm512_srl_epi32(self, _mm_cvtsi32_si128(N))
        }
        #[inline(always)]
        unsafe fn xor(self, b: Self) -> Self {
            _mm512_xor_si512(self, b)
        }
        #[inline(always)]
        unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            _mm512_rol_epi32::<LEFT>(self)
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Words;

    impl Words for uint32x4_t {
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: u32) -> Self {
            vdupq_n_u32(x)
        }
        #[inline(always)]
        unsafe fn load(from: *const u32) -> Self {
            vld1q_u32(from)
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut u32) {
            vst1q_u32(to, self);
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            vaddq_u32(self, b)
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            vsubq_u32(self, b)
        }
        #[inline(always)]
        unsafe fn and(self, b: Self) -> Self {
            vandq_u32(self, b)
        }
        #[inline(always)]
        unsafe fn shift_right<const N: i32>(self) -> Self {
            vshrq_n_u32::<N>(self)
        }
        #[inline(always)]
        unsafe fn xor(self, b: Self) -> Self {
            veorq_u32(self, b)
        }
        #[inline(always)]
        unsafe fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            vorrq_u32(vshlq_n_u32::<LEFT>(self), vshrq_n_u32::<RIGHT>(self))
        }
    }
}
