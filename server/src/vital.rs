//! Threads without which the gateway is none.

/// Ends the process when a thread panics without which the gateway would go on as a shell of itself: whoever started it
/// starts it again.
#[derive(Debug)]
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(thread = self.0, "a thread failed without which there is no gateway; ending");
            std::process::abort();
        }
    }
}
