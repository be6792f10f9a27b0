// A registry over plain HTTP that keeps blobs in a folder and answers what refers to a manifest (OCI 1.1).
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address, folder := os.Args[1], os.Args[2]
	blobs := registry.WithBlobHandler(registry.NewDiskBlobHandler(folder))
	log.Fatal(http.ListenAndServe(address, registry.New(blobs, registry.WithReferrersSupport(true))))
}
