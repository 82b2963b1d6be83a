//! What the program can be told to do.

/// A command: the first argument, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Command {
    /// Asks, waits for the decision, and ends with it.
    #[default]
    Init,
    /// Asks, keeps the lease until it is told to end, and gives it back.
    Sidecar,
    /// Tells whether a sidecar is ready.
    Ready,
    /// Gives back the grant that is written down.
    Release,
    /// Asks for the decision without effect.
    Check,
}

/// Those that have a name.
const NAMED: [Command; 4] = [Command::Sidecar, Command::Ready, Command::Release, Command::Check];

impl Command {
    /// The command of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMED.into_iter().find(|command| command.name() == name)
    }

    /// All names.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMED.into_iter().map(Self::name)
    }

    /// The first argument; empty where none is needed.
    fn name(self) -> &'static str {
        match self {
            Self::Init => "",
            Self::Sidecar => "sidecar",
            Self::Ready => "ready",
            Self::Release => "release",
            Self::Check => "check",
        }
    }

    /// How it is called.
    pub(crate) fn called(self) -> &'static str {
        match self {
            Self::Init => "podgate-init",
            Self::Sidecar => "podgate-init sidecar",
            Self::Ready => "podgate-init ready",
            Self::Release => "podgate-init release",
            Self::Check => "podgate-init check",
        }
    }
}
