// Command manifests reads Kubernetes manifests from standard input and guarantees that each is what the API of its kind takes: no unknown or repeated field, no
// value of another type. Kinds of operators are not known to it; they are named and passed over.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	codec := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for known := 0; ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) && known > 0 {
			fmt.Fprintf(out, "%d manifests fit their kinds\n", known)
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a document: %w", err)
		}
		_, kind, err := codec.Decode(document, nil, nil)
		switch {
		case runtime.IsNotRegisteredError(err):
			fmt.Fprintf(out, "not known here: %s\n", kind)
		case runtime.IsMissingKind(err):
			continue // an empty document
		case err != nil:
			return fmt.Errorf("%s: %w", kind, err)
		default:
			known++
		}
	}
}
