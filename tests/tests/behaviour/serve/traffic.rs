//! Tests of many requests at once: batches, a full queue, deadlines, metrics.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{FORM, form, request};
use super::{SMALL, Server, pictures};

#[test]
fn a_result_does_not_depend_on_who_else_is_in_the_batch() {
    let flags = [&SMALL[..], &["--max-batch", "8", "--max-delay", "30"]].concat();
    let server = Server::start(&flags);
    let files = pictures();
    let alone: Vec<String> = files
        .iter()
        .map(|(_, bytes)| {
            server.post("/detect?threshold=0.1", "image/png", bytes).expect(200).text()
        })
        .collect();
    let together = Barrier::new(32);
    std::thread::scope(|scope| {
        for client in 0..32 {
            let (server, files, alone, together) = (&server, &files, &alone, &together);
            scope.spawn(move || {
                together.wait();
                for round in 0..3 {
                    let index = (client + round) % files.len();
                    let body = &files[index].1;
                    let found = server.post("/detect?threshold=0.1", "image/png", body).expect(200);
                    assert_eq!(found.text(), alone[index], "{}", files[index].0);
                }
            });
        }
    });
    let metrics = server.get("/metrics").expect(200).text();
    let value = |name: &str| -> usize {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let count = 96 + files.len();
    assert_eq!(value("detr_requests_total{route=\"/detect\",status=\"200\"}"), count);
    assert_eq!(value("detr_pictures_total{model=\"shapes\",outcome=\"ok\"}"), count);
    assert_eq!(value("detr_stage_seconds_count{stage=\"queue\"}"), count);
    assert_eq!(value("detr_stage_seconds_count{stage=\"decode\"}"), count);
    assert_eq!(value("detr_queue_length"), 0);
    // Some of them met.
    assert!(value("detr_batch_pictures_count") < count, "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn a_full_queue_refuses_and_loses_nothing() {
    let flags = [&SMALL[..], &["--max-queue", "4"]].concat();
    let server = Server::start(&flags);
    // Four pictures fill the queue.
    let body = form(&pictures()[1..5]);
    let (good, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let answer = server.post("/detect", FORM, &body);
                    match answer.status {
                        200 => {
                            assert_eq!(answer.json().as_array().unwrap().len(), 4);
                            good.fetch_add(1, Ordering::SeqCst);
                        }
                        503 => {
                            assert_eq!(answer.header("retry-after"), Some("1"));
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        other => panic!("{other}: {}", answer.text()),
                    }
                }
            });
        }
    });
    let (good, refused) = (good.into_inner(), refused.into_inner());
    assert_eq!(good + refused, 96);
    assert!(good > 0 && refused > 0, "{good} good, {refused} refused");
    server.get("/ping").expect(200);
    server.post("/detect", FORM, &body).expect(200);
    // More than the queue can ever hold.
    server.post("/detect", FORM, &form(&pictures()[1..6])).expect(413);
}

#[test]
fn the_deadline_counts_the_time_in_the_queue() {
    let flags = [&SMALL[..], &["--deadline", "0.3", "--max-queue", "1000"]].concat();
    let server = Server::start(&flags);
    let shapes = &pictures()[..1];
    let many: Vec<_> = std::iter::repeat_n(shapes[0].clone(), 60).collect();
    let start = Instant::now();
    let answer = server.post("/detect", FORM, &form(&many)).expect(504);
    assert!(answer.text().contains("deadline"));
    let answer = server.post("/invocations", FORM, &form(&many)).expect(504);
    assert_eq!(answer.text(), "Request processing time exceeded limit");
    assert!(start.elapsed() < Duration::from_secs(10));
    // Pictures that nobody waits for any more are not computed: the queue is free at once.
    let metrics = server.get("/metrics").expect(200).text();
    let done = metrics.lines().find_map(|line| {
        line.strip_prefix("detr_stage_seconds_count{stage=\"infer\"} ")?.parse::<usize>().ok()
    });
    assert!(done.unwrap_or(0) < 120, "{metrics}");
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let server = Server::start(&SMALL);
    let many: Vec<_> = std::iter::repeat_n(pictures()[1].clone(), 60).collect();
    let body = form(&many);
    let head = format!(
        "POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..2 {
        let mut stream = super::client::connect(&server.address).unwrap();
        std::io::Write::write_all(&mut stream, &[head.as_bytes(), &body].concat()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
    }
    // There is room for another sixty at once: two times sixty are more than the queue of 128 has beside them.
    let start = Instant::now();
    loop {
        let answer = request(&server.address, "POST", "/detect", &[("Content-Type", FORM)], &body);
        let status = answer.unwrap().status;
        if status == 200 {
            break;
        }
        assert!(status == 503 && start.elapsed() < Duration::from_mins(1), "{status}");
    }
}
