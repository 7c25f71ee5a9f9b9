//! Git's protocol over one connection that both sides write to: the OpenSSH program, or a socket.

use std::{
    io::{self, Read, Write},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
};

use super::{address::Place, context::Context, error::Failure};

/// How much of what a program says is kept: enough for its reason, not for a flood.
const MOST_SAID: usize = 8 * 1024;

/// How long a process that was killed may take to be gone; only one that the kernel holds takes longer, and nobody waits for that.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// A connection to one repository.
pub(super) struct Duplex {
    context: Arc<Context>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    program: Option<Program>,
}

/// The program behind the connection; it ends with it.
struct Program {
    child: Child,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
}

// === impl Duplex ===

impl Duplex {
    /// The connection that a repository is fetched over.
    pub(super) fn open(context: &Arc<Context>) -> io::Result<Self> {
        Self::ask(context, "git-upload-pack", "")
    }

    /// What asks a server of ssh for leave to fetch files from its Git LFS.
    pub(super) fn lfs(context: &Arc<Context>) -> io::Result<Self> {
        Self::ask(context, "git-lfs-authenticate", " download")
    }

    fn ask(context: &Arc<Context>, program: &str, rest: &str) -> io::Result<Self> {
        match &context.address.place {
            Place::Ssh {
                user,
                host,
                port,
                path,
            } => {
                let mut arguments: Vec<String> = context.ssh.to_vec();
                arguments.extend(ssh_options(*port));
                arguments.push("--".to_owned());
                arguments.push(match user {
                    Some(user) => format!("{user}@{host}"),
                    None => host.clone(),
                });
                arguments.push(format!("{program} {}{rest}", quoted(path)));
                Self::run(context, &arguments)
            }
            Place::Git { host, port, path } => Self::connect(context, host, *port, path),
            Place::Http(_) | Place::Local(_) => Err(io::Error::other("not an address of a stream")),
        }
    }

    fn run(context: &Arc<Context>, arguments: &[String]) -> io::Result<Self> {
        let _runtime = context.runtime.enter();
        let (program, arguments) = arguments
            .split_first()
            .ok_or_else(|| io::Error::other("no ssh program is configured"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A session of its own would be better still; without a terminal to ask on, this is what keeps it from asking.
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env_remove("SSH_ASKPASS")
            .spawn()
            .map_err(|error| {
                context.fail(Failure::Refused(format!(
                    "the program '{program}' cannot be started ({error}); install OpenSSH's client or use https"
                )))
            })?;
        let missing = || io::Error::other("a pipe is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take();
        Ok(Self {
            context: Arc::clone(context),
            reader: Box::new(stdout),
            writer: Box::new(stdin),
            program: Some(Program {
                child,
                stderr,
                said: Vec::new(),
            }),
        })
    }

    fn connect(context: &Arc<Context>, host: &str, port: u16, path: &str) -> io::Result<Self> {
        let connecting = TcpStream::connect((host, port));
        let connected = context.wait("connecting", connecting)?;
        let stream = connected
            .map_err(|error| context.fail(Failure::Passing(format!("cannot connect: {error}"))))?;
        let (reader, writer) = stream.into_split();
        let mut duplex = Self {
            context: Arc::clone(context),
            reader: Box::new(reader),
            writer: Box::new(writer),
            program: None,
        };
        let request = format!("git-upload-pack {path}\0host={host}\0");
        let length = request.len() + 4;
        duplex.write_all(format!("{length:04x}{request}").as_bytes())?;
        Ok(duplex)
    }

    /// The connection ended; a program says why when that was early.
    fn ended(&mut self) -> io::Result<usize> {
        let Some(program) = &mut self.program else {
            return Ok(0);
        };
        let context = Arc::clone(&self.context);
        let status = context.wait("waiting for ssh to end", program.end())??;
        if status.success() {
            return Ok(0);
        }
        let said = String::from_utf8_lossy(&program.said).into_owned();
        Err(context.fail(why_ssh_failed(&said)))
    }
}

impl Read for Duplex {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let context = Arc::clone(&self.context);
        let Self {
            reader, program, ..
        } = self;
        let reading = async {
            match program {
                Some(program) => program.read_beside(reader, buffer).await,
                None => reader.read(buffer).await,
            }
        };
        let read = context.wait("receiving", reading)?;
        let read = read.map_err(|error| {
            context.fail(Failure::Passing(format!(
                "the connection broke off: {error}"
            )))
        })?;
        if read == 0 {
            return self.ended();
        }
        Ok(read)
    }
}

impl Write for Duplex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let context = Arc::clone(&self.context);
        let writing = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        match context.wait("sending", writing)? {
            Ok(()) => Ok(bytes.len()),
            // Nobody listens any more; the program knows why.
            Err(error) => {
                self.ended()?;
                let reason = format!("the connection broke off: {error}");
                Err(context.fail(Failure::Passing(reason)))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Duplex {
    /// The program ends with the connection, however that ends.
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            let ending = async { tokio::time::timeout(KILLED_WITHIN, program.child.kill()).await };
            drop(self.context.runtime.block_on(ending));
        }
    }
}

// === impl Program ===

impl Program {
    /// Reads what is for us, and keeps what is for people, so that neither stands in the way of the other.
    async fn read_beside(
        &mut self,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut words = [0; 1024];
        loop {
            let Some(stderr) = &mut self.stderr else {
                return reader.read(buffer).await;
            };
            // Reads of pipes take nothing when they are dropped.
            tokio::select! {
                biased;
                read = reader.read(buffer) => return read,
                read = stderr.read(&mut words) => match read? {
                    0 => self.stderr = None,
                    read => self.keep(&words[..read]),
                },
            }
        }
    }

    async fn end(&mut self) -> io::Result<std::process::ExitStatus> {
        let mut words = [0; 1024];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut words).await? {
                0 => self.stderr = None,
                read => self.keep(&words[..read]),
            }
        }
        self.child.wait().await
    }

    fn keep(&mut self, words: &[u8]) {
        let room = MOST_SAID.saturating_sub(self.said.len());
        self.said.extend_from_slice(&words[..words.len().min(room)]);
    }
}

// === functions ===

/// What a person at a terminal is not there to answer is not asked. Known hosts, keys and agents are OpenSSH's own affair.
fn ssh_options(port: Option<u16>) -> Vec<String> {
    let mut options = vec!["-o".to_owned(), "BatchMode=yes".to_owned()];
    if let Some(port) = port {
        options.extend(["-p".to_owned(), port.to_string()]);
    }
    options
}

/// One word for the shell on the other side, as git writes it.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// OpenSSH and git have no other way to say why than their words.
fn why_ssh_failed(said: &str) -> Failure {
    let said = said.trim();
    let low = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| low.contains(word));
    if has(&["host key verification failed", "remote host identification"]) {
        return Failure::Refused(
            "the server's host key is not known or has changed; compare it, and put it into known_hosts with ssh-keyscan".to_owned(),
        );
    }
    if has(&[
        "not found",
        "does not exist",
        "does not appear to be a git",
        "not a git repository",
    ]) {
        return Failure::NotFound;
    }
    if has(&[
        "permission denied",
        "access denied",
        "too many authentication",
    ]) {
        return Failure::Authentication(
            "the server accepts none of the keys that ssh has; check ~/.ssh and the agent of the user that the worker runs as".to_owned(),
        );
    }
    let last = said.lines().last().unwrap_or("ssh said nothing");
    Failure::Passing(format!("ssh failed: {last}"))
}

#[cfg(test)]
mod tests;
