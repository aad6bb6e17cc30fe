package entry

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
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
	// text of an entry, its "\n" included, is kept for the next one of its
	// stream.
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
	return &JSON{attrs: append([]byte(attrsKey), b...)}
}

// Append implements Encoder.
func (j *JSON) Append(dst []byte, e *Entry) []byte {
	tail := j.tail(e)
	if e.Partial {
		tail = tail[len(newline):]
	}
	dst = slices.Grow(dst, len(logKey)+len(e.Line)+len(tail))
	dst = append(dst, logKey...)
	dst = appendEscaped(dst, e.Line)
	return append(dst, tail...)
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
		*t = append(*t, newline+`","stream":"`...)
		*t = append(*t, e.Stream.String()...)
		*t = append(*t, '"')
		*t = append(*t, j.attrs...)
		*t = append(*t, timeKey...)
		*t = e.Time.UTC().AppendFormat(*t, time.RFC3339Nano)
		*t = append(*t, '"', '}', '\n')
	}
	return *t
}

const (
	logKey    = `{"log":"`
	streamKey = `,"stream":"std`
	attrsKey  = `,"attrs":`
	timeKey   = `,"time":"`
	newline   = `\n`
)

// JSONDecoder decodes what JSON encodes, and any other JSON object with the
// same members.
type JSONDecoder struct {
	// NoTime and NoAttrs leave those members of entries unset, which is faster.
	NoTime, NoAttrs bool

	scratch  []byte
	rawAttrs []byte
	attrs    map[string]string // decoded rawAttrs

	// Most lines differ from the one before in their text only: what followed
	// the text of the last canonical line, to its end, and what that means.
	tail []byte
	last Entry
}

// Next implements Decoder.
func (d *JSONDecoder) Next(b []byte, e *Entry) (n int, ok bool) {
	if n = d.similar(b, e); n > 0 {
		return n, true
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > MaxRecord {
			return len(b), false
		}
		return 0, false
	}
	return end + 1, d.line(b[:end], e)
}

// similar decodes a line that ends as the last canonical one did.
func (d *JSONDecoder) similar(b []byte, e *Entry) (n int) {
	if len(d.tail) == 0 || len(b) < len(logKey) || string(b[:len(logKey)]) != logKey {
		return 0
	}
	text := b[len(logKey):]
	end := closingQuote(text)
	if end < 0 || !bytes.HasPrefix(text[end+1:], d.tail) {
		return 0
	}
	*e = d.last
	if !d.setText(text[:end], e) {
		return 0
	}
	return len(logKey) + end + 1 + len(d.tail)
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
	if at := bytes.LastIndex(b, []byte(logKey)); at > 0 {
		return d.canonical(b[at:], e)
	}
	return false
}

// canonical decodes a line as JSON writes it, without encoding/json.
func (d *JSONDecoder) canonical(b []byte, e *Entry) bool {
	b, ok := bytes.CutPrefix(b, []byte(logKey))
	if !ok {
		return false
	}
	end := closingQuote(b)
	if end < 0 || !d.setText(b[:end], e) || !d.setTail(b[end+1:], e) {
		return false
	}
	d.tail = append(append(d.tail[:0], b[end+1:]...), '\n')
	d.last = *e
	return true
}

// setTail decodes what follows the text of an entry.
func (d *JSONDecoder) setTail(b []byte, e *Entry) bool {
	b, ok := bytes.CutPrefix(b, []byte(streamKey))
	if !ok || len(b) < 4 {
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
	if bytes.HasPrefix(b, []byte(attrsKey)) {
		at := bytes.LastIndex(b, []byte(timeKey))
		if at < 0 || !d.setAttrs(b[len(attrsKey):at], e) {
			return false
		}
		b = b[at:]
	}
	if b, ok = bytes.CutPrefix(b, []byte(timeKey)); !ok {
		return false
	}
	b, ok = bytes.CutSuffix(b, []byte(`"}`))
	return ok && d.setTime(b, e)
}

// setText decodes the text of an entry.
func (d *JSONDecoder) setText(text []byte, e *Entry) bool {
	line, whole := bytes.CutSuffix(text, []byte(newline))
	if bytes.IndexByte(line, '\\') >= 0 {
		var ok bool
		if d.scratch, ok = appendUnescaped(d.scratch[:0], text); !ok {
			return false
		}
		line, whole = bytes.CutSuffix(d.scratch, []byte{'\n'})
	}
	e.Line, e.Partial = line, !whole
	return true
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
