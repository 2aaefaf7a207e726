//! Finding the end of the plain part of a JSON string, eight bytes at a time: what both directions spend most of
//! their time on when strings are long.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many bytes at the start of `bytes` are neither `"`, nor `\`, nor a control character: those can be copied.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        // The usual "does any byte equal zero" and "is any byte below n". Both are exact about whether there is one,
        // and about the lowest one; what they say of the bytes above it is noise.
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let special = special & HIGHS;
        if special != 0 {
            return index * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let start = bytes.len() - rest.len();
    start + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_special_byte_wherever_it_is() {
        for special in [b'"', b'\\', 0, 1, 0x1f] {
            for position in 0..20 {
                let mut bytes: Vec<u8> = (0..24).map(|i| b" !#[]~\x7f\x80\xff"[i % 9]).collect();
                assert_eq!(plain_prefix(&bytes), 24);
                bytes[position] = special;
                bytes[position + 2] = b'"';
                assert_eq!(plain_prefix(&bytes), position, "{special} at {position}");
            }
        }
        assert_eq!(plain_prefix(b""), 0);
    }
}
