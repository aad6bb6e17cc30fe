package entry

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// escapes holds what stands for each byte in a JSON string, from the lowest
// byte on, and in the highest byte how long that is: 1 for a byte that stands
// for itself.
var escapes = func() (t [256]uint64) {
	const hex = "0123456789abcdef"
	for c := range t {
		text := []byte{byte(c)}
		switch {
		case c == '"' || c == '\\':
			text = []byte{'\\', byte(c)}
		case c == '\n':
			text = []byte(`\n`)
		case c == '\r':
			text = []byte(`\r`)
		case c == '\t':
			text = []byte(`\t`)
		case c < ' ':
			text = []byte{'\\', 'u', '0', '0', hex[c>>4], hex[c&15]}
		}
		var word [8]byte
		copy(word[:], text)
		word[7] = byte(len(text))
		t[c] = binary.LittleEndian.Uint64(word[:])
	}
	return t
}()

// near is how many bytes are looked at one by one where one is escaped: there
// are often more.
const near = 32

// appendEscaped appends s as the inside of a JSON string.
func appendEscaped(dst, s []byte) []byte {
	for {
		n := plainPrefix(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return dst
		}
		dst = slices.Grow(dst, 8*near)
		end := len(dst)
		dst = dst[:cap(dst)]
		n = min(len(s), near)
		for _, c := range s[:n] {
			e := escapes[c]
			binary.LittleEndian.PutUint64(dst[end:], e) // with what the next one overwrites
			end += int(e >> 56)
		}
		dst, s = dst[:end], s[n:]
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks bytes of x that do not stand for themselves, by their highest
// bits: quotes, backslashes and those below ' '. The lowest byte that is
// marked is marked rightly; those above it may not be.
func special(x uint64) uint64 {
	const flip = '"' ^ ' ' // makes a quote a space, and leaves none below
	return (((x ^ ones*flip) - ones*(' '+1)) | ((x ^ ones*'\\') - ones)) &^ x & highs
}

// plainPrefix returns how many bytes s begins with that stand for themselves.
// It looks at eight at a time.
func plainPrefix(s []byte) int {
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(s[at:]) }
	n := 0
	for ; n+32 <= len(s); n += 32 {
		if special(word(n))|special(word(n+8))|special(word(n+16))|special(word(n+24)) != 0 {
			break
		}
	}
	for ; n+8 <= len(s); n += 8 {
		if m := special(word(n)); m != 0 {
			return n + bits.TrailingZeros64(m)/8
		}
	}
	if n == len(s) {
		return n
	}
	if len(s) >= 8 { // the last word begins with bytes that are known to be plain
		n = len(s) - 8
		return n + bits.TrailingZeros64(special(word(n)))/8
	}
	for n < len(s) && escapes[s[n]]>>56 == 1 {
		n++
	}
	return n
}

// appendUnescaped appends what the inside s of a JSON string stands for.
func appendUnescaped(dst, s []byte) (_ []byte, ok bool) {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), true
		}
		dst = append(dst, s[:i]...)
		s = s[i:]
		for plain := 0; plain < near && len(s) > 0; {
			switch {
			case s[0] != '\\':
				dst, s = append(dst, s[0]), s[1:]
				plain++
			case len(s) >= 6 && string(s[:4]) == `\u00` && digits16[s[4]] < 8 && digits16[s[5]] < 16:
				dst, s = append(dst, byte(digits16[s[4]]<<4|digits16[s[5]])), s[6:]
			default:
				if dst, s, ok = unescape(dst, s); !ok {
					return dst, false
				}
				plain = 0
			}
		}
	}
}

// unescape appends what the escape sequence stands for that s begins with,
// and returns what follows it.
func unescape(dst, s []byte) (_, rest []byte, ok bool) {
	if len(s) < 2 {
		return dst, s, false
	}
	c := s[1]
	switch c {
	case '"', '\\', '/':
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'u':
		r, n := codePoint(s[2:])
		return utf8.AppendRune(dst, r), s[2+n:], n > 0
	default:
		return dst, s, false
	}
	return append(dst, c), s[2:], true
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

// digits16 holds what each hexadecimal digit stands for; 16 is none.
var digits16 = func() (t [256]rune) {
	for c := range t {
		switch {
		case '0' <= c && c <= '9':
			t[c] = rune(c) - '0'
		case 'a' <= c && c <= 'f':
			t[c] = rune(c) - 'a' + 10
		case 'A' <= c && c <= 'F':
			t[c] = rune(c) - 'A' + 10
		default:
			t[c] = 16
		}
	}
	return t
}()

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	a, b, c, d := digits16[s[0]], digits16[s[1]], digits16[s[2]], digits16[s[3]]
	return a<<12 | b<<8 | c<<4 | d, (a|b|c|d)&16 == 0
}
