package decide

import (
	"errors"
	"strings"
)

var errArray = errors.New("not a one-dimensional Postgres array")

// parseArray reads a one-dimensional array as Postgres prints it; a NULL element is nil.
func parseArray(text string) ([]*string, error) {
	inner, ok := strings.CutPrefix(text, "{")
	if !ok {
		return nil, errArray
	}
	var elements []*string
	for first := true; ; first = false {
		if rest, ended := strings.CutPrefix(inner, "}"); ended && (first || rest == "") {
			if rest != "" {
				return nil, errArray
			}
			return elements, nil
		}
		if !first {
			if inner, ok = strings.CutPrefix(inner, ","); !ok {
				return nil, errArray
			}
		}
		element, rest, err := parseElement(inner)
		if err != nil {
			return nil, err
		}
		elements, inner = append(elements, element), rest
	}
}

// parseElement reads one element, quoted or plain.
func parseElement(text string) (element *string, rest string, err error) {
	if text == "" || text[0] == '{' {
		return nil, "", errArray
	}
	if text[0] != '"' {
		end := strings.IndexAny(text, ",}")
		if end <= 0 {
			return nil, "", errArray
		}
		if plain := text[:end]; plain != "NULL" {
			element = &plain
		}
		return element, text[end:], nil
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return new(out.String()), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return nil, "", errArray
			}
		}
		out.WriteByte(text[i])
	}
	return nil, "", errArray
}
