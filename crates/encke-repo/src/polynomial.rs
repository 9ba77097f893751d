//! Polynomials over GF(2) of degree up to 63, a bit a coefficient, as Rabin fingerprints need them (Rabin 1981).

/// Degree that restic uses.
pub(crate) const DEGREE: u32 = 53;

pub(crate) fn degree(p: u64) -> u32 {
    63 - p.leading_zeros().min(63)
}

/// Remainder of a polynomial of up to 128 coefficients.
pub(crate) fn remainder(mut a: u128, p: u64) -> u64 {
    let d = degree(p);
    while a >> d != 0 {
        let top = 127 - a.leading_zeros();
        a ^= u128::from(p) << (top - d);
    }
    u64::try_from(a).unwrap_or_default()
}

fn multiply(a: u64, b: u64, p: u64) -> u64 {
    let mut product = 0u128;
    for i in 0..64 {
        if b >> i & 1 == 1 {
            product ^= u128::from(a) << i;
        }
    }
    remainder(product, p)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (
            b,
            if degree(a) < degree(b) {
                a
            } else {
                remainder(u128::from(a), b)
            },
        );
    }
    a
}

/// Rabin's test for a prime degree `n`: x^(2^n) = x, and x^2 - x shares no factor with the polynomial.
pub(crate) fn is_irreducible(p: u64) -> bool {
    const X: u64 = 2;
    let mut power = X;
    for _ in 0..degree(p) {
        power = multiply(power, power, p);
    }
    power == remainder(u128::from(X), p) && gcd(p, X ^ multiply(X, X, p)) == 1
}

/// A random irreducible polynomial of restic's degree.
pub(crate) fn random() -> Result<u64, getrandom::Error> {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        // Degree 53, and a constant term, without which x would divide it.
        let candidate = (u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1)) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_irreducible_polynomials() {
        // The example of restic's design document, and small ones of prime degree from any table.
        assert!(is_irreducible(0x3D_A335_8B4D_C173));
        for p in [0b1011, 0b1101, 0b10_0101, 0b111] {
            assert!(is_irreducible(p), "{p:b}");
        }
        for p in [0b1001, 0b1111, 0b10_0001] {
            assert!(!is_irreducible(p), "{p:b}");
        }
        let random = random().unwrap();
        assert_eq!(degree(random), DEGREE);
        assert!(is_irreducible(random));
    }
}
