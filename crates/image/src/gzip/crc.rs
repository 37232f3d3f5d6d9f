//! The CRC of bytes and of runs of zeros, the latter without going through them.
//!
//! A CRC-32 is a remainder of polynomials over two elements: a zero byte behind the data multiplies it by x⁸. So n of
//! them multiply by x⁸ⁿ, and that is a product of squares made once.

/// The polynomial of CRC-32 (IEEE 802.3), its highest power in the lowest bit.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// x to the powers 1, 2, 4, 8, ...: enough for 2⁶⁴ bits and eight bits to a byte.
const SQUARES: [u32; 67] = {
    let mut squares = [0; 67];
    // x itself: x⁰ is the highest bit.
    squares[0] = 1 << 30;
    let mut index = 1;
    while index < 67 {
        squares[index] = multiply(squares[index - 1], squares[index - 1]);
        index += 1;
    }
    squares
};

/// The product of two remainders.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

/// The CRC of what a CRC belongs to and `count` zero bytes behind it.
pub(crate) fn with_zeros(crc: u32, count: u64) -> u32 {
    let mut register = !crc;
    let mut rest = count;
    let mut power = 3;
    while rest != 0 {
        if rest & 1 != 0 {
            register = multiply(SQUARES[power], register);
        }
        rest >>= 1;
        power += 1;
    }
    !register
}

/// The CRC of data and of `crc` in front of it.
pub(crate) fn with_bytes(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_need_not_be_gone_through() {
        let zeros = vec![0; 100_000];
        for crc in [0, crc32fast::hash(b"data"), u32::MAX] {
            for count in [0_usize, 1, 2, 255, 258, 65_536, 99_999] {
                assert_eq!(with_zeros(crc, u64::try_from(count).unwrap()), with_bytes(crc, &zeros[..count]), "{count}");
            }
        }
        // In any portions, and as many as there can be.
        assert_eq!(with_zeros(with_zeros(7, 1 << 40), (1 << 63) + 5), with_zeros(7, (1 << 63) + (1 << 40) + 5));
        assert_ne!(with_zeros(7, u64::MAX), with_zeros(7, u64::MAX - 1));
    }
}
