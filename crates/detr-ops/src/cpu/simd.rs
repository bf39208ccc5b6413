//! One source for each kernel, compiled for several instruction sets, and the choice between them at
//! run time.

/// Whether multiply and add are one instruction. A constant, so that plain x86-64 never calls a
/// library function for it.
pub(super) const FUSED: bool = true;

/// See [`FUSED`].
pub(super) const SEPARATE: bool = false;

/// `a * b + c`.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Defines `fn $name($args)` that runs `$body::<FMA>($args)` with the best instructions that the
/// processor has. `$body` and what it calls must be `#[inline(always)]` to be compiled with them.
macro_rules! multiversioned {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body::<{ $crate::cpu::simd::FUSED }>($($arg),*);
                }

                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body::<{ $crate::cpu::simd::FUSED }>($($arg),*);
                }

                let avx2_fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if avx2_fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the processor has every feature that the function is compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if avx2_fma {
                    // SAFETY: the processor has both features that the function is compiled for.
                    return unsafe { avx2($($arg),*) };
                }
                $body::<{ $crate::cpu::simd::SEPARATE }>($($arg),*);
            }
            // Arm's vectors and fused products are part of every 64-bit target.
            #[cfg(target_arch = "aarch64")]
            $body::<{ $crate::cpu::simd::FUSED }>($($arg),*);
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            $body::<{ $crate::cpu::simd::SEPARATE }>($($arg),*);
        }
    };
}

pub(super) use multiversioned;
