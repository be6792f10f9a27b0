// What kstatus makes of each resource on standard input, one line of JSON for each.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := answers(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answers(from io.Reader, to io.Writer) error {
	read, write := json.NewDecoder(from), json.NewEncoder(to)
	for {
		var resource json.RawMessage
		err := read.Decode(&resource)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(resource); err != nil {
			return err
		}
		found, err := status.Compute(object)
		if err != nil {
			return err
		}
		if err := write.Encode(answer{found.Status.String(), found.Message}); err != nil {
			return err
		}
	}
}
