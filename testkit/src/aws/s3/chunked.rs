//! Removes the `aws-chunked` coding in which SDKs send a body whose checksum comes at its end.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use bytes::Bytes;

/// A body and what was sent after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) body: Bytes,
    /// Names in lower case.
    pub(super) trailers: Vec<(String, String)>,
}

/// Decodes; nothing where the coding is broken.
pub(super) fn decode(mut left: &[u8]) -> Option<Decoded> {
    let mut body = Vec::with_capacity(left.len());
    loop {
        let head = take_line(&mut left)?;
        let size = head.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(left.get(..size)?);
        left = left.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let mut trailers = Vec::new();
    while !left.is_empty() {
        let line = take_line(&mut left)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Decoded { body: body.into(), trailers })
}

fn take_line<'a>(left: &mut &'a [u8]) -> Option<&'a str> {
    let end = left.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&left[..end]).ok()?;
    *left = &left[end + 2..];
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_trailers_read() {
        let coded = b"5\r\nhello\r\n3;chunk-signature=ab\r\n\r\n!\r\n0\r\nX-Amz-Checksum-Crc32:AAAA\r\n\r\n";
        let trailers = vec![("x-amz-checksum-crc32".to_owned(), "AAAA".to_owned())];
        assert_eq!(decode(coded), Some(Decoded { body: Bytes::from_static(b"hello\r\n!"), trailers }));
        assert_eq!(decode(b"0\r\n\r\n"), Some(Decoded { body: Bytes::new(), trailers: Vec::new() }));
    }

    #[test]
    fn a_broken_coding_is_noticed() {
        for broken in
            [&b""[..], b"5\r\nhell", b"5\r\nhelloX\r\n0\r\n\r\n", b"zz\r\n", b"0\r\nno colon\r\n\r\n"]
        {
            assert_eq!(decode(broken), None, "{broken:?}");
        }
    }
}
