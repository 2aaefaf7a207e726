//! Options of a submit on their way from a child to its parent.

use std::time::Duration;

use taskloom_model::{OnConflict, Options, RetryPolicy, Timestamp, When};

use super::wire::{Broken, Fields, Outgoing};

fn write_when(out: &mut Outgoing, when: When) {
    match when {
        When::In(span) => {
            out.u8(0);
            write_span(out, span);
        }
        When::At(at) => {
            out.u8(1);
            out.i64(at.micros());
        }
    }
}

fn read_when(fields: &mut Fields<'_>) -> Result<When, Broken> {
    match fields.u8()? {
        0 => read_span(fields).map(When::In),
        1 => Ok(When::At(Timestamp::from_micros(fields.i64()?))),
        _ => Err(Broken),
    }
}

fn write_span(out: &mut Outgoing, span: Duration) {
    out.u64(span.as_secs());
    out.u32(span.subsec_nanos());
}

fn read_span(fields: &mut Fields<'_>) -> Result<Duration, Broken> {
    let (seconds, nanos) = (fields.u64()?, fields.u32()?);
    if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(Broken) }
}

fn write_texts(out: &mut Outgoing, texts: &[String]) {
    out.u32(texts.len() as u32);
    texts.iter().for_each(|text| out.text(text));
}

fn read_texts(fields: &mut Fields<'_>) -> Result<Vec<String>, Broken> {
    (0..fields.u32()?).map(|_| fields.text().map(str::to_owned)).collect()
}

fn parsed<T: std::str::FromStr>(fields: &mut Fields<'_>) -> Result<T, Broken> {
    fields.text()?.parse().map_err(|_| Broken)
}

/// Writes the options of a submit.
pub fn write_options(out: &mut Outgoing, options: &Options) {
    // By name and without a rest, so that an option that is added is not forgotten here.
    let Options {
        id,
        queue,
        priority,
        eta,
        expires,
        timeout,
        deadline,
        retries,
        retry,
        max_crashes,
        version,
        tags,
        unique_key,
        unique_for,
        on_conflict,
        key,
        concurrency,
        rate,
        per_key,
        depends_on,
        requires,
        agent,
        metadata,
        correlation_id,
        traceparent,
    } = options;
    out.maybe(*id, |out, id| out.text(&id.to_string()));
    for text in [queue, unique_key, key, agent, correlation_id, traceparent] {
        out.maybe(text.as_deref(), Outgoing::text);
    }
    out.maybe(*priority, |out, priority| out.text(priority.as_str()));
    for when in [eta, expires, deadline] {
        out.maybe(*when, write_when);
    }
    for span in [timeout, unique_for] {
        out.maybe(*span, write_span);
    }
    out.maybe(*retries, Outgoing::u32);
    out.maybe(*retry, |out, retry| {
        write_span(out, retry.base);
        out.f64(retry.factor);
        write_span(out, retry.cap);
    });
    out.maybe(*max_crashes, Outgoing::u8);
    out.maybe(*version, |out, version| out.text(&version.to_string()));
    out.maybe(*on_conflict, |out, on_conflict| {
        out.u8(match on_conflict {
            OnConflict::Return => 0,
            OnConflict::Replace => 1,
            OnConflict::Reject => 2,
        });
    });
    out.maybe(*concurrency, Outgoing::u32);
    out.maybe(rate.as_ref(), |out, rate| out.text(&rate.to_string()));
    out.u8((*per_key).into());
    write_texts(out, &depends_on.iter().map(ToString::to_string).collect::<Vec<_>>());
    for texts in [tags, requires] {
        write_texts(out, texts);
    }
    out.u32(metadata.len() as u32);
    for (key, value) in metadata {
        out.text(key);
        out.text(value);
    }
}

/// Reads the options of a submit.
pub fn read_options(fields: &mut Fields<'_>) -> Result<Options, Broken> {
    let mut options = Options { id: fields.maybe(parsed)?, ..Options::default() };
    let own = &mut options;
    for text in [
        &mut own.queue,
        &mut own.unique_key,
        &mut own.key,
        &mut own.agent,
        &mut own.correlation_id,
        &mut own.traceparent,
    ] {
        *text = fields.maybe(Fields::text)?.map(str::to_owned);
    }
    own.priority = fields.maybe(parsed)?;
    for when in [&mut own.eta, &mut own.expires, &mut own.deadline] {
        *when = fields.maybe(read_when)?;
    }
    for span in [&mut own.timeout, &mut own.unique_for] {
        *span = fields.maybe(read_span)?;
    }
    own.retries = fields.maybe(Fields::u32)?;
    own.retry = fields.maybe(|fields| {
        Ok(RetryPolicy { base: read_span(fields)?, factor: fields.f64()?, cap: read_span(fields)? })
    })?;
    own.max_crashes = fields.maybe(Fields::u8)?;
    own.version = fields.maybe(parsed)?;
    own.on_conflict = fields.maybe(|fields| match fields.u8()? {
        0 => Ok(OnConflict::Return),
        1 => Ok(OnConflict::Replace),
        2 => Ok(OnConflict::Reject),
        _ => Err(Broken),
    })?;
    own.concurrency = fields.maybe(Fields::u32)?;
    own.rate = fields.maybe(parsed)?;
    own.per_key = fields.u8()? != 0;
    own.depends_on =
        read_texts(fields)?.iter().map(|id| id.parse().map_err(|_| Broken)).collect::<Result<_, _>>()?;
    own.tags = read_texts(fields)?;
    own.requires = read_texts(fields)?;
    own.metadata = (0..fields.u32()?)
        .map(|_| Ok((fields.text()?.to_owned(), fields.text()?.to_owned())))
        .collect::<Result<_, _>>()?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_arrive_as_they_were_written() {
        let full = Options {
            id: Some("0190b6a1-7a3b-7c21-8f3e-0123456789ab".parse().unwrap()),
            queue: Some("img".into()),
            priority: Some("high".parse().unwrap()),
            eta: Some(When::In(Duration::from_millis(1500))),
            expires: Some(When::At(Timestamp::from_micros(7))),
            timeout: Some(Duration::from_secs(3)),
            deadline: Some(When::In(Duration::MAX)),
            retries: Some(4),
            retry: Some(RetryPolicy {
                base: Duration::from_secs(1),
                factor: 1.5,
                cap: Duration::from_secs(9),
            }),
            max_crashes: Some(2),
            version: Some("1.2.3".parse().unwrap()),
            tags: vec!["a".into(), "b".into()],
            unique_key: Some("u".into()),
            unique_for: Some(Duration::from_secs(60)),
            on_conflict: Some(OnConflict::Reject),
            key: Some("k".into()),
            concurrency: Some(2),
            rate: Some("10/s+20".parse().unwrap()),
            per_key: true,
            depends_on: vec!["0190b6a1-7a3b-7c21-8f3e-0123456789ac".parse().unwrap()],
            requires: vec!["gpu".into()],
            agent: Some("x".into()),
            metadata: vec![("k".into(), "v".into())],
            correlation_id: Some("c".into()),
            traceparent: Some("t".into()),
        };
        for options in [full, Options::default()] {
            let mut out = Outgoing::default();
            write_options(&mut out, &options);
            let mut fields = Fields(out.as_slice());
            assert_eq!(read_options(&mut fields).unwrap(), options);
            assert!(fields.0.is_empty(), "all of it was read");
        }
    }
}
