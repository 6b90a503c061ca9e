//! As much of RFB (RFC 6143) as it takes to see that a desktop draws: the handshake, one picture, its colours.

use crate::run::Run;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::io::{Read, Write};

/// What a VNC server shows.
#[derive(Debug)]
pub struct Screen {
    /// What it calls itself.
    pub name: String,
    /// Its width and height in pixels.
    pub size: (u16, u16),
    /// How many different colours the picture has.
    pub colours: usize,
}

/// Security type by a password.
const BY_PASSWORD: u8 = 2;
/// The encoding that every server knows: pixels as they are.
const RAW: u32 = 0;

/// Takes one picture of the whole screen from a server that lets in by a password alone.
pub fn look(server: &mut (impl Read + Write), password: &str) -> Result<Screen> {
    handshake(server, password)?;
    // Shared: whoever else looks at the screen keeps it.
    server.write_all(&[1])?;
    let size = (short(server)?, short(server)?);
    let format: [u8; 16] = bytes(server)?;
    let depth = usize::from(format[0] / 8);
    ensure!((1..=4).contains(&depth), "{} bits to a pixel", format[0]);
    let name = text(server)?;
    // SetEncodings, one of them; then a FramebufferUpdateRequest for all of the screen.
    server.write_all(&[&[2, 0, 0, 1], &RAW.to_be_bytes()[..]].concat())?;
    let (width, height) = (size.0.to_be_bytes(), size.1.to_be_bytes());
    server.write_all(&[&[3, 0, 0, 0, 0, 0], &width[..], &height[..]].concat())?;
    let colours = picture(server, depth)?;
    Ok(Screen { name, size, colours })
}

fn handshake(server: &mut (impl Read + Write), password: &str) -> Result<()> {
    let version: [u8; 12] = bytes(server).context("the port answers, but says nothing")?;
    ensure!(version.starts_with(b"RFB 003."), "not RFB: {}", String::from_utf8_lossy(&version));
    server.write_all(b"RFB 003.008\n")?;
    let [count] = bytes(server)?;
    if count == 0 {
        bail!("the server refuses: {}", text(server)?);
    }
    let mut kinds = vec![0; usize::from(count)];
    server.read_exact(&mut kinds)?;
    ensure!(kinds == [BY_PASSWORD], "the server does not ask for a password alone (security types {kinds:?})");
    server.write_all(&[BY_PASSWORD])?;
    let answer = answer(password, bytes(server)?)?;
    server.write_all(&answer)?;
    if bytes::<4>(server)? != [0; 4] {
        bail!("the server refuses: {}", text(server)?);
    }
    Ok(())
}

/// What a challenge is answered with (7.2.2): its DES, by a key that is the password with the bits of each letter turned round.
/// OpenSSL has DES three times in a row; the second undoes the first where all keys are the same.
fn answer(password: &str, challenge: [u8; 16]) -> Result<Vec<u8>> {
    let mut key = [0; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(key, letter)| *key = letter.reverse_bits());
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = "openssl enc -des-ede3-ecb -nopad -K $0$0$0 | od -An -v -tx1";
    let hex = Run::new("sh").args(["-c", line, &key]).input(challenge).output()?;
    let answer: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    ensure!(answer.len() == challenge.len(), "`{line}` says {hex:?}: is OpenSSL 3 installed?");
    Ok(answer)
}

/// The colours of the next picture.
fn picture(server: &mut impl Read, depth: usize) -> Result<usize> {
    loop {
        match bytes(server)? {
            // A picture, in rectangles.
            [0] => break,
            // A bell.
            [2] => {}
            // Somebody's clipboard.
            [3] => {
                let _: [u8; 3] = bytes(server)?;
                text(server)?;
            }
            [kind] => bail!("message {kind}, which was not asked for"),
        }
    }
    let _: [u8; 1] = bytes(server)?;
    let mut colours = HashSet::new();
    for _ in 0..short(server)? {
        let _: [u8; 4] = bytes(server)?;
        let (width, height) = (usize::from(short(server)?), usize::from(short(server)?));
        let encoding = u32::from_be_bytes(bytes(server)?);
        ensure!(encoding == RAW, "encoding {encoding}, which was not asked for");
        let mut pixels = vec![0; width * height * depth];
        server.read_exact(&mut pixels)?;
        colours.extend(pixels.chunks_exact(depth).map(<[u8]>::to_vec));
    }
    Ok(colours.len())
}

fn bytes<const N: usize>(server: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    server.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn short(server: &mut impl Read) -> Result<u16> {
    Ok(u16::from_be_bytes(bytes(server)?))
}

fn text(server: &mut impl Read) -> Result<String> {
    let length = u32::from_be_bytes(bytes(server)?);
    let mut words = Vec::new();
    server.take(u64::from(length)).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A server that says this whatever it is told.
    struct Server(Cursor<Vec<u8>>);

    impl Read for Server {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Server {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn server(parts: &[&[u8]]) -> Server {
        Server(Cursor::new(parts.concat()))
    }

    #[test]
    fn colours_of_a_picture_are_counted() -> Result<()> {
        let mut format = [0; 16];
        format[0] = 8;
        let (version, bell) = (b"RFB 003.008\n", [2]);
        let taken = [&[1, BY_PASSWORD], &[7; 16][..], &[0; 4]].concat();
        let init = [&[0, 2, 0, 2], &format[..], &[0, 0, 0, 2], b"me"].concat();
        let update = [&[0, 0, 0, 1], &[0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0][..], &[7, 8, 7, 9]].concat();
        let screen = look(&mut server(&[version, &taken, &init, &bell, &update]), "password")?;
        assert_eq!((screen.name.as_str(), screen.size, screen.colours), ("me", (2, 2), 3));
        Ok(())
    }

    #[test]
    fn a_challenge_is_answered_as_viewers_do() -> Result<()> {
        let challenge = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let hex = |answer: Vec<u8>| answer.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(answer("password", challenge)?), "b866924125c8eebb9debc1db61c538e2");
        assert_eq!(hex(answer("abc", [0; 16])?), "0f3ddf69f786bf5e0f3ddf69f786bf5e");
        Ok(())
    }

    #[test]
    fn what_is_not_a_screen_is_named() {
        let error =
            |parts: &[&[u8]]| look(&mut server(parts), "wrong").map_or_else(|e| format!("{e:#}"), |_| String::new());
        assert!(error(&[b"HTTP/1.1 400"]).contains("not RFB"));
        assert!(error(&[b"RFB 003.008\n", &[2, 1, 2]]).contains("a password alone"));
        let refusal = [&[7; 16][..], &[0, 0, 0, 1, 0, 0, 0, 2], b"no"].concat();
        assert!(error(&[b"RFB 003.008\n", &[1, BY_PASSWORD], &refusal]).contains("refuses: no"));
        assert!(error(&[b"RFB 003.008\n", &[0, 0, 0, 0, 4], b"full"]).contains("full"));
        assert!(error(&[]).contains("says nothing"));
    }
}
