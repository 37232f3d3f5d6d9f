//! In which form pieces travel: by samples of them, packed here, and by what `wire` has learnt of this board.

use super::Course;
use crate::board::error::BoardError;
use crate::board::pack::Form;
use crate::board::uboot::Uboot;
use crate::board::wire::Costs;

impl Course<'_> {
    /// The form for these pieces, and whether that is only tried.
    pub(super) fn form(&mut self, uboot: &Uboot, costs: &Costs, pieces: &[usize]) -> Result<(Form, bool), BoardError> {
        if !costs.may_pack() {
            return Ok((Form::Raw, false));
        }
        let sample = sample(pieces, |index| self.is_data(index));
        let ratio = self.ratio(uboot, costs, &sample)?;
        Ok(match costs.trial(&ratio) {
            Some(form) => (form, true),
            None => (costs.favourite(&ratio), false),
        })
    }

    /// Unpacked to packed bytes of a sample, by form.
    fn ratio(
        &mut self,
        uboot: &Uboot,
        costs: &Costs,
        sample: &[usize],
    ) -> Result<impl Fn(Form) -> f64 + use<>, BoardError> {
        let mut ratios = [1.0, 1.0];
        for (slot, form) in [(0, Form::Lz4), (1, Form::Gzip)] {
            if !costs.takes(form) || sample.is_empty() || (form == Form::Gzip && self.gzip.is_some()) {
                continue;
            }
            let start = uboot.now();
            let (mut packed, mut unpacked) = (0, 0);
            for index in sample {
                let (of, to) = self.ground.packer.sample(*index, form)?;
                unpacked += of;
                packed += to;
            }
            self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
            #[expect(clippy::as_conversions, reason = "there is no other way from usize to f64")]
            let ratio = unpacked as f64 / packed.max(1) as f64;
            ratios[slot] = ratio;
        }
        if let Some(better) = self.gzip {
            ratios[1] = ratios[0] * better;
        } else if !sample.is_empty() {
            // It takes long to know, and is only a guess what to try.
            self.gzip = Some(ratios[1] / ratios[0]);
        }
        Ok(move |form| match form {
            Form::Raw => 1.0,
            Form::Lz4 => ratios[0],
            Form::Gzip => ratios[1],
        })
    }
}

/// A few pieces of data from the front, the middle and the end.
fn sample(pieces: &[usize], is_data: impl Fn(usize) -> bool) -> Vec<usize> {
    let data: Vec<usize> = pieces.iter().copied().filter(|index| is_data(*index)).collect();
    let mut picks: Vec<usize> =
        [0, data.len() / 2, data.len().saturating_sub(1)].iter().filter_map(|at| data.get(*at)).copied().collect();
    picks.dedup();
    picks
}
