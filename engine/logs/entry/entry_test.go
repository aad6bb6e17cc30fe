package entry

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 30, 8, 9, 10, 123456789, time.UTC)

var samples = map[string]Entry{
	"plain":          {Stream: Stdout, Time: now, Line: []byte("hello")},
	"empty":          {Stream: Stderr, Time: now, Line: nil},
	"partial":        {Stream: Stdout, Time: now.Truncate(time.Second), Partial: true, Line: bytes.Repeat([]byte("x"), MaxLine)},
	"escapes":        {Stream: Stderr, Time: now, Line: []byte("tab\t quote\" back\\slash \r\x00\x1b[1m\x7f")},
	"ends in slash":  {Stream: Stdout, Time: now, Line: []byte(`C:\`)},
	"looks escaped":  {Stream: Stdout, Time: now, Line: []byte(`\n`)},
	"partial slash":  {Stream: Stdout, Time: now, Partial: true, Line: []byte(`\`)},
	"not UTF-8":      {Stream: Stdout, Time: now, Line: []byte("\xff\xfe\x80 grün €")},
	"holds an entry": {Stream: Stdout, Time: now, Line: []byte(`{"log":"fake\n","stream":"stderr","time":"2020-01-01T00:00:00Z"}`)},
}

func formats(attrs map[string]string) map[string]struct {
	enc Encoder
	dec Decoder
} {
	return map[string]struct {
		enc Encoder
		dec Decoder
	}{
		"json-file": {NewJSON(attrs), &JSONDecoder{}},
		"local":     {Local{}, LocalDecoder{}},
	}
}

func same(a, b Entry) bool {
	return a.Stream == b.Stream && a.Partial == b.Partial && a.Time.Equal(b.Time) && bytes.Equal(a.Line, b.Line)
}

func TestRoundTrip(t *testing.T) {
	for driver, f := range formats(nil) {
		for name, want := range samples {
			b := f.enc.Append(nil, &want)
			var got Entry
			if n, ok := f.dec.Next(b, &got); n != len(b) || !ok || !same(got, want) {
				t.Errorf("%s: %s: Next = %d of %d, %v, %+v", driver, name, n, len(b), ok, got)
			}
			got = Entry{}
			if start, ok := f.dec.Last(b, true, &got); start != 0 || !ok || !same(got, want) {
				t.Errorf("%s: %s: Last = %d, %v, %+v", driver, name, start, ok, got)
			}
			for cut := range len(b) {
				if n, ok := f.dec.Next(b[:cut], &got); n != 0 || ok {
					t.Fatalf("%s: %s cut to %d of %d bytes: Next = %d, %v", driver, name, cut, len(b), n, ok)
				}
			}
		}
	}
}

func TestAttrs(t *testing.T) {
	want := map[string]string{"k": `a"b\`, "time": `","time":"`}
	e := samples["plain"]
	b := NewJSON(want).Append(nil, &e)
	for range 2 { // the second time from the decoder's memory
		var got Entry
		if _, ok := new(JSONDecoder).Next(b, &got); !ok || !maps.Equal(got.Attrs, want) {
			t.Errorf("got %v", got.Attrs)
		}
	}
}

func TestJSONIsReadableByOthers(t *testing.T) {
	for name, e := range samples {
		if name == "not UTF-8" {
			continue
		}
		b := NewJSON(map[string]string{"a": "b"}).Append(nil, &e)
		var doc struct {
			Log, Stream string
			Time        time.Time
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := string(e.Line)
		if !e.Partial {
			want += "\n"
		}
		if doc.Log != want || doc.Stream != e.Stream.String() || !doc.Time.Equal(e.Time) {
			t.Errorf("%s: got %+v", name, doc)
		}
	}
}

func TestForeignJSON(t *testing.T) {
	rows := map[string]struct {
		line string
		want *Entry
	}{
		"other order":  {`{"time":"2026-11-30T08:09:10.123456789Z", "stream":"stderr", "log":"héllo\n"}`, &Entry{Stream: Stderr, Time: now, Line: []byte("héllo")}},
		"surrogates":   {`{"log":"\ud83d\ude00\u0041","stream":"stdout","time":"2026-11-30T08:09:10.123456789Z"}`, &Entry{Stream: Stdout, Time: now, Partial: true, Line: []byte("😀A")}},
		"a zone":       {`{"log":"a\n","stream":"stdout","time":"2026-11-30T09:09:10.123456789+01:00"}`, &Entry{Stream: Stdout, Time: now, Line: []byte("a")}},
		"no log":       {`{"stream":"stdout","time":"2026-11-30T09:09:10Z"}`, nil},
		"bad stream":   {`{"log":"a\n","stream":"stdin","time":"2026-11-30T09:09:10Z"}`, nil},
		"bad time":     {`{"log":"a\n","stream":"stdout","time":"yesterday"}`, nil},
		"not JSON":     {`hello`, nil},
		"empty":        {``, nil},
		"an open end":  {`{"log":"a\`, nil},
		"bad escape":   {`{"log":"\u12","stream":"stdout","time":"2026-11-30T09:09:10Z"}`, nil},
		"after a torn": {`{"log":"half a li{"log":"whole\n","stream":"stdout","time":"2026-11-30T08:09:10.123456789Z"}`, &Entry{Stream: Stdout, Time: now, Line: []byte("whole")}},
	}
	for name, row := range rows {
		var got Entry
		n, ok := new(JSONDecoder).Next([]byte(row.line+"\n"), &got)
		if n != len(row.line)+1 || ok != (row.want != nil) || ok && !same(got, *row.want) {
			t.Errorf("%s: got %d, %v, %+v", name, n, ok, got)
		}
	}
}

// torn files: garbage before, between and after entries costs no entry.
func TestGarbage(t *testing.T) {
	one, two := samples["plain"], samples["escapes"]
	garbage := [][]byte{nil, {0}, []byte("\x00\x00\x00\x10"), []byte("garbage garbage garbage"), bytes.Repeat([]byte{0xff}, 100), make([]byte, 4096)}
	for driver, f := range formats(nil) {
		for _, g := range garbage {
			if driver == "json-file" {
				g = append(bytes.Clone(g), '\n')
			}
			b := append(bytes.Clone(g), f.enc.Append(nil, &one)...)
			b = append(b, g...)
			b = f.enc.Append(b, &two)
			if got := forward(f.dec, b); len(got) != 2 || got[0] != "hello" || got[1] != string(two.Line) {
				t.Errorf("%s: %q before entries: forwards %q", driver, g, got)
			}
			b = append(b, g...)
			if got := backward(f.dec, b); len(got) != 2 || got[1] != "hello" || got[0] != string(two.Line) {
				t.Errorf("%s: %q around entries: backwards %q", driver, g, got)
			}
		}
	}
}

func forward(d Decoder, b []byte) (lines []string) {
	for {
		var e Entry
		n, ok := d.Next(b, &e)
		if ok {
			lines = append(lines, string(e.Line))
		}
		if n == 0 {
			return lines
		}
		b = b[n:]
	}
}

func backward(d Decoder, b []byte) (lines []string) {
	for len(b) > 0 {
		var e Entry
		start, ok := d.Last(b, true, &e)
		if ok {
			lines = append(lines, string(e.Line))
		}
		b = b[:start]
	}
	return lines
}

func FuzzDecode(f *testing.F) {
	for _, e := range samples {
		for driver, x := range formats(map[string]string{"a": "b"}) {
			f.Add(x.enc.Append(nil, &e), driver == "local")
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, local bool) {
		var d Decoder = &JSONDecoder{}
		if local {
			d = LocalDecoder{}
		}
		for rest := b; ; {
			var e Entry
			n, ok := d.Next(rest, &e)
			if n < 0 || n > len(rest) || ok && n == 0 || ok && e.Stream != Stdout && e.Stream != Stderr {
				t.Fatalf("Next = %d, %v of %d bytes", n, ok, len(rest))
			}
			if n == 0 {
				break
			}
			rest = rest[n:]
		}
		for rest := b; len(rest) > 0; {
			var e Entry
			start, _ := d.Last(rest, true, &e)
			if start < 0 || start >= len(rest) {
				t.Fatalf("Last = %d of %d bytes", start, len(rest))
			}
			rest = rest[:start]
		}
	})
}

func TestTimes(t *testing.T) {
	for _, s := range []string{
		"2026-11-30T08:09:10.123456789Z", "2026-11-30T08:09:10Z", "2026-11-30T08:09:10.5Z", "2024-02-29T00:00:00Z", "2026-12-31T23:59:59.999999999Z",
		"2026-11-30T08:09:10.123456789+02:00", "0001-01-01T00:00:00Z",
		"2026-02-30T00:00:00Z", "2026-11-30T24:00:00Z", "2026-11-30T08:09:10.Z", "2026-13-01T00:00:00Z", "2026-11-30T08:09:10", "Z", "", "2026-11-30T08:09:10.1234567890Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		got, ok := parseTime([]byte(s))
		if ok != (err == nil) || ok && !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v, %v", s, got, ok, want, err)
		}
	}
}

// Benchmark is of lines of one time, as output comes in chunks.
func Benchmark(b *testing.B) {
	zeros, random := make([]byte, MaxLine), make([]byte, MaxLine)
	if _, err := rand.NewChaCha8([32]byte{}).Read(random); err != nil {
		b.Fatal(err)
	}
	drivers := map[string]struct {
		enc Encoder
		dec Decoder
	}{
		"json-file": {&JSON{}, &JSONDecoder{}},
		"local":     {Local{}, LocalDecoder{}},
	}
	for name, line := range map[string][]byte{
		"10":     bytes.Repeat([]byte("x"), 10),
		"100":    bytes.Repeat([]byte("x"), 100),
		"1000":   bytes.Repeat([]byte("x"), 1000),
		"quotes": []byte(`{"level":"info","time":"12:00:00","message":"served a request","path":"/index.html","status":200}`),
		"zeros":  zeros,
		"random": random,
	} {
		for driver, d := range drivers {
			e := Entry{Stream: Stdout, Time: now, Line: line}
			var dst []byte
			b.Run("encode/"+driver+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(line)))
				for b.Loop() {
					dst = d.enc.Append(dst[:0], &e)
				}
			})
			b.Run("decode/"+driver+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(line)))
				for b.Loop() {
					d.dec.Next(dst, &e)
				}
			})
		}
	}
}
