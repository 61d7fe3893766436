//! What becomes of a log file that cannot be read.

use sinks::{Letter, LogFile, Reason, ReasonCode};

use super::{LogFileJob, Read, broken};
use crate::worker::fetch::{FetchError, Version};
use crate::worker::pass::PassError;
use crate::worker::plan::{JobEnd, Remains};

impl LogFileJob {
    /// What cannot be read goes to the dead letters; what must not be read keeps its notification.
    pub(super) async fn give_up(&self, error: &PassError, attempts: u32, patient: bool) -> Read {
        let (from, code, text) = match error {
            PassError::Broken { error, .. } if self.unfinished => return Read::Kept(broken(error)),
            PassError::Broken { error, from } => (*from, ReasonCode::Unreadable, broken(error)),
            PassError::Fetch(error @ (FetchError::NotFound(_) | FetchError::Changed(_))) => {
                let gaps = self.claims.iter().map(|claim| claim.share.account().settled.first_gap());
                (gaps.min().unwrap_or(0), ReasonCode::Unreadable, error.to_string())
            }
            // Given back, it would be shipped once more to those that have something of it.
            PassError::Fetch(_) if self.is_held() && (patient || !self.is_untouched()) => return Read::Later,
            PassError::Fetch(error) => return Read::Kept(error.to_string()),
            PassError::Died => return Read::Kept("a worker died on it: please report this".to_owned()),
        };
        let why = Reason::new(code, text);
        let (letter, remains) = self.letter(from, attempts, &why);
        if let Err(error) = self.plan.dead_letters.store(&[letter]).await {
            self.observer.dead_letter_failed(&error);
            let later = patient && self.is_held();
            let why = format!("dead letters cannot be stored: {error}");
            return if later { Read::Later } else { Read::Kept(why) };
        }
        self.observer.dead_lettered(&self.name(), from, &why, remains);
        for claim in &self.claims {
            claim.share.settle_unread(from);
        }
        *self.ending() = Some(JobEnd::DeadLettered);
        Read::Over
    }

    fn letter(&self, from: u64, attempts: u32, why: &Reason) -> (Letter, Remains) {
        let Version { version_id, key, .. } = self.version().clone();
        let file = self.file.clone();
        let file = LogFile { version_id, key: key.unwrap_or(file.key), ..file };
        let letter = Letter::of_log_file(&file, from, attempts, why, self.plan.clock.now());
        match self.fetch.document() {
            // With its message it is gone: there is no bucket to read it from again.
            Some(document) => (letter.with_document(document), Remains::InLetter),
            None => (letter, Remains::InPlace),
        }
    }
}
