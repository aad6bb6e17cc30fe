package entry

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON encodes entries as Docker's json-file driver does, one object a line:
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2006-01-02T15:04:05.000000001Z"}
//
// A partial entry's text has no "\n". Bytes that are no UTF-8 are written as
// they are, so that output comes back unchanged.
type JSON struct {
	attrs []byte // `,"attrs":{…}`, or empty

	// Output comes in chunks of many lines with one time: what follows the
	// text of an entry is kept for the next one of its stream.
	time  time.Time
	tails [Stderr + 1][]byte
}

// NewJSON returns an encoder that adds attrs to each entry.
func NewJSON(attrs map[string]string) *JSON {
	if len(attrs) == 0 {
		return &JSON{}
	}
	b, err := json.Marshal(attrs)
	if err != nil {
		panic(err) // a map of strings always encodes
	}
	return &JSON{attrs: append([]byte(`,"attrs":`), b...)}
}

// Append implements Encoder.
func (j *JSON) Append(dst []byte, e *Entry) []byte {
	dst = append(dst, logKey...)
	dst = appendEscaped(dst, e.Line)
	if !e.Partial {
		dst = append(dst, '\\', 'n')
	}
	return append(dst, j.tail(e)...)
}

func (j *JSON) tail(e *Entry) []byte {
	if e.Time != j.time { // not Equal: it has to be cheap, and may be wrong this way
		j.time = e.Time
		for i := range j.tails {
			j.tails[i] = j.tails[i][:0]
		}
	}
	t := &j.tails[e.Stream]
	if len(*t) == 0 {
		*t = append(*t, `","stream":"`...)
		*t = append(*t, e.Stream.String()...)
		*t = append(*t, '"')
		*t = append(*t, j.attrs...)
		*t = append(*t, `,"time":"`...)
		*t = e.Time.UTC().AppendFormat(*t, time.RFC3339Nano)
		*t = append(*t, '"', '}', '\n')
	}
	return *t
}

const hex = "0123456789abcdef"

// plain says which bytes stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

func appendEscaped(dst, s []byte) []byte {
	for len(s) > 0 {
		n := plainPrefix(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			break
		}
		c := s[n]
		s = s[n+1:]
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// plainPrefix returns how many bytes s begins with that stand for themselves.
// It looks at eight at a time: a byte's highest bit in special is set when it
// is below ' ', or equal to a quote or a backslash. Bytes behind the first
// such one may be marked wrongly, which costs only a second look.
func plainPrefix(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(s); n += 8 {
		x := binary.LittleEndian.Uint64(s[n:])
		quote, backslash := x^ones*'"', x^ones*'\\'
		special := (x-ones*' ')&^x | (quote-ones)&^quote | (backslash-ones)&^backslash
		if special&highs != 0 {
			break
		}
	}
	for n < len(s) && plain[s[n]] {
		n++
	}
	return n
}

var (
	logKey    = []byte(`{"log":"`)
	streamKey = []byte(`,"stream":"std`)
	attrsKey  = []byte(`,"attrs":`)
	timeKey   = []byte(`,"time":"`)
	newline   = []byte(`\n`)
)

// JSONDecoder decodes what JSON encodes, and any other JSON object with the
// same members.
type JSONDecoder struct {
	// NoTime and NoAttrs leave those members of entries unset, which is faster.
	NoTime, NoAttrs bool

	scratch  []byte
	rawAttrs []byte
	attrs    map[string]string // decoded rawAttrs
}

// Next implements Decoder.
func (d *JSONDecoder) Next(b []byte, e *Entry) (n int, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > MaxRecord {
			return len(b), false
		}
		return 0, false
	}
	return end + 1, d.line(b[:end], e)
}

// Last implements Decoder. What follows the last newline is no entry (yet).
func (d *JSONDecoder) Last(b []byte, whole bool, e *Entry) (start int, ok bool) {
	end := bytes.LastIndexByte(b, '\n')
	if end >= 0 && end+1 < len(b) {
		return end + 1, false
	}
	start = 0
	if end >= 0 {
		start = bytes.LastIndexByte(b[:end], '\n') + 1
	}
	switch {
	case start > 0, whole && end >= 0:
		return start, d.line(b[start:end], e)
	case whole, len(b) > MaxRecord:
		return 0, false
	}
	return -1, false
}

// line decodes one line, or what follows a torn entry in it: the start of an
// entry cannot be in another's text, where quotes are escaped.
func (d *JSONDecoder) line(b []byte, e *Entry) bool {
	if len(b) == 0 {
		return false
	}
	if d.canonical(b, e) || d.foreign(b, e) {
		return true
	}
	if at := bytes.LastIndex(b, logKey); at > 0 {
		return d.canonical(b[at:], e)
	}
	return false
}

// canonical decodes a line as JSON writes it, without encoding/json.
func (d *JSONDecoder) canonical(b []byte, e *Entry) bool {
	b, ok := bytes.CutPrefix(b, logKey)
	if !ok {
		return false
	}
	text, b, ok := d.text(b, e)
	if !ok {
		return false
	}
	if b, ok = bytes.CutPrefix(b, streamKey); !ok || len(b) < 4 {
		return false
	}
	switch string(b[:4]) {
	case `out"`:
		e.Stream = Stdout
	case `err"`:
		e.Stream = Stderr
	default:
		return false
	}
	b = b[4:]
	e.Attrs = nil
	if bytes.HasPrefix(b, attrsKey) {
		at := bytes.LastIndex(b, timeKey)
		if at < 0 || !d.setAttrs(b[len(attrsKey):at], e) {
			return false
		}
		b = b[at:]
	}
	if b, ok = bytes.CutPrefix(b, timeKey); !ok {
		return false
	}
	if b, ok = bytes.CutSuffix(b, []byte(`"}`)); !ok {
		return false
	}
	e.Line = text
	return d.setTime(b, e)
}

// text decodes the string that b begins with, behind its first quote.
func (d *JSONDecoder) text(b []byte, e *Entry) (text, rest []byte, ok bool) {
	end := closingQuote(b)
	if end < 0 {
		return nil, nil, false
	}
	text, rest = b[:end], b[end+1:]
	line, whole := bytes.CutSuffix(text, newline)
	if bytes.IndexByte(line, '\\') < 0 {
		e.Partial = !whole
		return line, rest, true
	}
	d.scratch, ok = appendUnescaped(d.scratch[:0], text)
	line, whole = bytes.CutSuffix(d.scratch, []byte{'\n'})
	e.Partial = !whole
	return line, rest, ok
}

// closingQuote returns where the first quote is that no backslash escapes.
func closingQuote(b []byte) int {
	at := 0
	for {
		i := bytes.IndexByte(b[at:], '"')
		if i < 0 {
			return -1
		}
		at += i
		slashes := 0
		for slashes < at && b[at-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
		at++
	}
}

func appendUnescaped(dst, s []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), true
		}
		dst = append(dst, s[:i]...)
		if i+1 >= len(s) {
			return dst, false
		}
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			r, n := codePoint(s)
			if n == 0 {
				return dst, false
			}
			dst, s = utf8.AppendRune(dst, r), s[n:]
		default:
			return dst, false
		}
	}
}

// codePoint decodes the four digits behind a \u, and the second half of a
// surrogate pair; n is 0 when they are none.
func codePoint(s []byte) (r rune, n int) {
	r, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) && len(s) >= 10 && s[4] == '\\' && s[5] == 'u' {
		if r2, ok := hex4(s[6:]); ok {
			if pair := utf16.DecodeRune(r, r2); pair != utf8.RuneError {
				return pair, 10
			}
		}
	}
	return r, 4
}

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (d *JSONDecoder) setAttrs(raw []byte, e *Entry) bool {
	if d.NoAttrs {
		return true
	}
	if !bytes.Equal(raw, d.rawAttrs) || d.attrs == nil {
		d.attrs = nil
		if json.Unmarshal(raw, &d.attrs) != nil {
			d.attrs = nil
			return false
		}
		d.rawAttrs = append(d.rawAttrs[:0], raw...)
	}
	e.Attrs = d.attrs
	return true
}

func (d *JSONDecoder) setTime(b []byte, e *Entry) bool {
	e.Time = time.Time{}
	if d.NoTime {
		return true
	}
	t, ok := parseTime(b)
	e.Time = t
	return ok
}

// foreign decodes any JSON object that has the members of an entry.
func (d *JSONDecoder) foreign(b []byte, e *Entry) bool {
	if b[0] != '{' {
		return false
	}
	var doc struct {
		Log    *string           `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(b, &doc) != nil || doc.Log == nil {
		return false
	}
	if !e.Stream.set([]byte(doc.Stream)) {
		return false
	}
	d.scratch = append(d.scratch[:0], *doc.Log...)
	line, whole := bytes.CutSuffix(d.scratch, []byte{'\n'})
	e.Line, e.Partial, e.Time, e.Attrs = line, !whole, doc.Time, doc.Attrs
	return true
}
