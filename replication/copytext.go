package replication

import (
	"bytes"
	"fmt"
)

// parseCopyLine splits a line of COPY text, without its newline, into the columns it is given. Texts without escapes alias the line; the others are
// unescaped into scratch.
func parseCopyLine(line []byte, columns []tupleColumn, scratch []byte) ([]tupleColumn, []byte, error) {
	columns, scratch = columns[:0], scratch[:0]
	for {
		field, rest, more := bytes.Cut(line, []byte{'\t'})
		column := tupleColumn{kind: tupleText, text: field}
		switch {
		case len(field) == 2 && field[0] == '\\' && field[1] == 'N':
			column = tupleColumn{kind: tupleNull}
		case bytes.IndexByte(field, '\\') >= 0:
			start := len(scratch)
			var err error
			if scratch, err = unescape(scratch, field); err != nil {
				return columns, scratch, err
			}
			// A later append may move scratch; this slice keeps what it points to.
			column.text = scratch[start:len(scratch):len(scratch)]
		}
		columns = append(columns, column)
		if !more {
			return columns, scratch, nil
		}
		line = rest
	}
}

// unescape appends the field with the escapes resolved that COPY TO writes. It writes no octal or hexadecimal ones.
func unescape(dst, field []byte) ([]byte, error) {
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		if i == len(field) {
			return dst, fmt.Errorf("%w: COPY field ends in a backslash", errMalformed)
		}
		switch field[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'v':
			dst = append(dst, '\v')
		default:
			dst = append(dst, field[i])
		}
	}
	return dst, nil
}
