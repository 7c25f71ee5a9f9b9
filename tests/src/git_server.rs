//! git's own HTTP server (`git http-backend`) for repositories below a folder, on loopback, for as long as the process lives.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// What a request says that the backend wants to know.
#[derive(Debug, Default)]
struct Asked {
    method: String,
    target: String,
    kind: String,
    encoding: String,
    protocol: String,
    length: Option<u64>,
}

/// Serves the repositories below a folder; the server's address.
///
/// # Panics
///
/// When no port is free.
pub fn serve(root: &Path) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let root: PathBuf = root.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let root = root.clone();
            // A connection that breaks is the business of who asked.
            thread::spawn(move || answer(client, &root).ok());
        }
    });
    address
}

/// Answers one request.
fn answer(client: TcpStream, root: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let asked = read_head(&mut reader)?;
    let body = match asked.length {
        Some(length) => {
            let mut body = Vec::new();
            reader.take(length).read_to_end(&mut body)?;
            body
        }
        None => read_chunks(&mut reader)?,
    };
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let mut backend = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", &asked.kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", &asked.encoding)
        .env("GIT_PROTOCOL", &asked.protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = backend.stdin.take().expect("it is piped");
    // What does not want its input has answered without.
    let writing = thread::spawn(move || input.write_all(&body).ok());
    let output = backend.wait_with_output()?.stdout;
    writing.join().ok();
    let status = output
        .strip_prefix(b"Status: ")
        .and_then(|rest| rest.split(|byte| *byte == b'\r').next());
    let status = String::from_utf8_lossy(status.unwrap_or(b"200 OK")).into_owned();
    let mut client = client;
    write!(client, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    client.write_all(&output)
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Asked> {
    let mut asked = Asked::default();
    let (mut line, mut is_chunked) = (String::new(), false);
    while reader.read_line(&mut line)? > 2 {
        let text = line.trim_end();
        if asked.method.is_empty() {
            let mut words = text.split(' ').map(str::to_owned);
            asked.method = words.next().unwrap_or_default();
            asked.target = words.next().unwrap_or_default();
        } else if let Some((name, value)) = text.split_once(':') {
            let value = value.trim().to_owned();
            match name.to_ascii_lowercase().as_str() {
                "content-type" => asked.kind = value,
                "content-encoding" => asked.encoding = value,
                "git-protocol" => asked.protocol = value,
                "content-length" => asked.length = value.parse().ok(),
                "transfer-encoding" => is_chunked = true,
                _ => {}
            }
        }
        line.clear();
    }
    if !is_chunked {
        asked.length.get_or_insert(0);
    }
    Ok(asked)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16);
        let size = size.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        reader.take(size).read_to_end(&mut body)?;
        // Each ends with a line's end, and after the last one nothing follows that matters.
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}
