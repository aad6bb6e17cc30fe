package entry

import (
	"encoding/binary"
	"time"
)

// Local encodes entries for the local driver: the message's length (4 bytes,
// big endian), a protobuf message, and the length again, so that files can be
// read from both ends. The message's fields are
//
//	1 source (string)  2 time in ns (varint)  3 line (bytes)  4 partial (bool)
type Local struct{}

// Keys of the message's fields: 8 times the number, and 0 for a varint or 2
// for bytes.
const (
	keySource  = 10
	keyTime    = 16
	keyLine    = 26
	keyPartial = 32
)

// Append implements Encoder.
func (Local) Append(dst []byte, e *Entry) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, keySource)
	dst = binary.AppendUvarint(dst, uint64(len(e.Stream.String())))
	dst = append(dst, e.Stream.String()...)
	dst = append(dst, keyTime)
	dst = binary.AppendUvarint(dst, uint64(e.Time.UnixNano()))
	dst = append(dst, keyLine)
	dst = binary.AppendUvarint(dst, uint64(len(e.Line)))
	dst = append(dst, e.Line...)
	if e.Partial {
		dst = append(dst, keyPartial, 1)
	}
	size := uint32(len(dst) - start - 4)
	binary.BigEndian.PutUint32(dst[start:], size)
	return binary.BigEndian.AppendUint32(dst, size)
}

// LocalDecoder decodes what Local encodes.
type LocalDecoder struct{}

// Next implements Decoder.
func (LocalDecoder) Next(b []byte, e *Entry) (n int, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	size := int(binary.BigEndian.Uint32(b))
	if size > MaxRecord {
		return nextRecord(b), false
	}
	if len(b) < size+8 {
		if size > 0 && (len(b) < 5 || b[4] == keySource) {
			return 0, false
		}
		return nextRecord(b), false
	}
	if int(binary.BigEndian.Uint32(b[4+size:])) != size || !message(b[4:4+size], e) {
		return nextRecord(b), false
	}
	return size + 8, true
}

// nextRecord returns where behind its first byte b may hold a record: all of
// b but a few bytes when there is none.
func nextRecord(b []byte) int {
	var e Entry
	for i := 1; i+8 <= len(b); i++ {
		size := int(binary.BigEndian.Uint32(b[i:]))
		if size == 0 || size > MaxRecord || b[i+4] != keySource {
			continue
		}
		end := i + 4 + size
		if end+4 > len(b) || int(binary.BigEndian.Uint32(b[end:])) == size && message(b[i+4:end], &e) {
			return i
		}
	}
	return max(1, len(b)-7)
}

// Last implements Decoder.
func (LocalDecoder) Last(b []byte, whole bool, e *Entry) (start int, ok bool) {
	if len(b) < 4 {
		if whole {
			return 0, false
		}
		return -1, false
	}
	size := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	start = len(b) - 8 - size
	switch {
	case size == 0, size > MaxRecord, start < 0 && whole:
		return previousRecord(b), false
	case start < 0:
		return -1, false
	case int(binary.BigEndian.Uint32(b[start:])) != size, !message(b[start+4:start+4+size], e):
		return previousRecord(b), false
	}
	return start, true
}

// previousRecord returns where in b the last record ends that is no suffix of
// b, or 0.
func previousRecord(b []byte) int {
	var e Entry
	for end := len(b) - 1; end >= 8; end-- {
		size := int(binary.BigEndian.Uint32(b[end-4:]))
		start := end - 8 - size
		if size == 0 || size > MaxRecord || start < 0 {
			continue
		}
		if int(binary.BigEndian.Uint32(b[start:])) == size && message(b[start+4:end-4], &e) {
			return end
		}
	}
	return 0
}

// message decodes the protobuf message; fields of other numbers are passed over.
func message(b []byte, e *Entry) bool {
	*e = Entry{}
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		number, text, rest, ok := field(key, b[n:])
		if !ok {
			return false
		}
		b = rest
		switch key {
		case keySource:
			if !e.Stream.set(text) {
				return false
			}
		case keyTime:
			e.Time = time.Unix(0, int64(number)).UTC()
		case keyLine:
			e.Line = text
		case keyPartial:
			e.Partial = number != 0
		}
	}
	return e.Stream != 0
}

// field reads the value of a field: a number or a string, by its key.
func field(key uint64, b []byte) (number uint64, text, rest []byte, ok bool) {
	number, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, nil, false
	}
	b = b[n:]
	switch key & 7 {
	case 0:
		return number, nil, b, true
	case 2:
		if number > uint64(len(b)) {
			return 0, nil, nil, false
		}
		return 0, b[:number], b[number:], true
	}
	return 0, nil, nil, false // of no field that was ever written
}
