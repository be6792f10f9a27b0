// What Flux makes of each resource on standard input by the expressions of its first argument, one line of JSON for each.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := answers(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answers(written string, from io.Reader, to io.Writer) error {
	var expressions kustomize.HealthCheckExpressions
	if err := json.Unmarshal([]byte(written), &expressions); err != nil {
		return err
	}
	evaluator, err := cel.NewStatusEvaluator(&expressions)
	if err != nil {
		return err
	}
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
		// Its poller takes what cannot be evaluated for unknown, and asks again.
		given := answer{Status: "Unknown"}
		if found, err := evaluator.Evaluate(context.Background(), object); err != nil {
			given.Message = err.Error()
		} else {
			given = answer{found.Status.String(), found.Message}
		}
		if err := write.Encode(given); err != nil {
			return err
		}
	}
}
