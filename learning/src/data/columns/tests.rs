use super::*;

/// A zip of stored `.npy` files, as numpy.savez makes it: name, type, shape and bytes of each array.
fn npz(arrays: &[(&str, &str, &str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, descr, shape, values) in arrays {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let len = (header.len() as u16).to_le_bytes();
        let content = [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), values].concat();
        let name = format!("{name}.npy");
        let mut crc = flate2::Crc::new();
        crc.update(&content);
        let (size, name_len) = ((content.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
        let fields = [&[0; 8][..], &crc.sum().to_le_bytes(), &size, &size, &name_len, &[0, 0]].concat();
        let offset = (file.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\x00\x14\x00", &fields[..], &[0; 10], &offset, name.as_bytes()].concat());
        file.extend([b"PK\x03\x04\x14\x00", &fields[..], name.as_bytes(), &content].concat());
    }
    let (count, begin) = ((arrays.len() as u16).to_le_bytes(), (file.len() as u32).to_le_bytes());
    let len = (directory.len() as u32).to_le_bytes();
    let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &len, &begin, &[0, 0]].concat();
    [file, directory, end].concat()
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

fn open(content: &[u8], columns: &[&str], limits: &Limits) -> Result<Columns, DataError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("rows");
    std::fs::write(&path, content).expect("writes");
    Columns::open(&path, &names(columns), limits)
}

/// NaN is not itself.
fn shown(columns: &Columns, rows: &[usize]) -> String {
    format!("{:?}", columns.rows(rows).expect("there"))
}

#[test]
fn a_csv_gives_its_columns_in_the_order_asked_for_and_its_gaps_whole_or_in_pieces() {
    let content = b"a,b,c\n1,,3\n4,nan,6\n7,inf,9\n10,1e99,-2.5\n";
    for resident_bytes in [1 << 20, 4] {
        let limits = Limits {
            resident_bytes,
            ..Limits::default()
        };
        let columns = open(content, &["c", "b"], &limits).expect("opens");
        assert_eq!((columns.len(), columns.widths().expect("readable")), (4, vec![1, 1]));
        assert_eq!(shown(&columns, &[3, 0, 1, 2]), "[[-2.5, 3.0, 6.0, 9.0], [inf, NaN, NaN, inf]]");
        assert_eq!(shown(&open(content, &["a"], &limits).expect("opens"), &[1, 2]), "[[4.0, 7.0]]");
    }
}

#[test]
fn what_is_no_number_and_what_is_not_there_is_refused_with_the_place() {
    let refused = |content: &[u8], columns: &[&str]| {
        let opened = open(content, columns, &Limits::default());
        opened.map(|_| ()).expect_err("refused").to_string()
    };
    assert!(refused(b"a,b\n1,2\n3,x\n", &["b"]).contains("`b` is `x`, which is not a number"));
    assert!(refused(b"a,b\n1,2\n", &["a", "d"]).contains("there is no column `d`; the file has a, b"));
    let archive = npz(&[("x", "<f4", "2, ", &[0; 8])]);
    let text = refused(&archive, &["y"]);
    assert!(text.contains("there is no array `y` for the job; the file has x"), "{text}");
    assert!(refused(b"\x93NUMPY\x01\x00", &["x"]).contains("numpy.savez"));
}

#[test]
fn arrays_keep_their_widths_their_kinds_and_their_gaps() {
    let floats: Vec<u8> = [1.0_f32, f32::NAN, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let ints: Vec<u8> = [(1_i64 << 40) + 1, -3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let archive = npz(&[
        ("x", "<f4", "2, 2", &floats),
        ("n", "<i8", "2, ", &ints),
        ("weights", "<i8", "2, ", &ints),
    ]);
    let columns = open(&archive, &["n", "x"], &Limits::default()).expect("opens");
    assert_eq!((columns.len(), columns.widths().expect("readable")), (2, vec![1, 2]));
    assert_eq!(shown(&columns, &[1, 0]), "[[-3.0, 1099511627777.0], [3.0, 4.0, 1.0, NaN]]");
}
