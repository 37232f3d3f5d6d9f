//! Numbers as U-Boot's `simple_strtoul` reads them: as far as they go, and never an error.

/// Hexadecimal, with or without `0x`. What is no digit ends it; too many digits wrap.
pub fn hex(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    in_base(digits, 16)
}

/// Decimal.
pub(crate) fn dec(text: &str) -> u64 {
    in_base(text, 10)
}

/// Decimal, or hexadecimal after `0x`, with a sign, as `test` reads it.
pub(crate) fn signed(text: &str) -> i64 {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let value = if text.starts_with("0x") || text.starts_with("0X") { hex(text) } else { dec(text) };
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    if negative { -value } else { value }
}

fn in_base(text: &str, base: u32) -> u64 {
    let digits = text.chars().map_while(|c| c.to_digit(base));
    digits.fold(0, |sum: u64, digit| sum.wrapping_mul(base.into()).wrapping_add(digit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_they_end() {
        assert_eq!(hex("0x40400000"), 0x4040_0000);
        assert_eq!(hex("1g"), 1);
        assert_eq!(hex(""), 0);
        assert_eq!(dec("12a"), 12);
        assert_eq!((signed("-5"), signed("0x10"), signed("x")), (-5, 16, 0));
        assert_eq!(hex("ffffffffffffffffff"), u64::MAX);
    }
}
