// The least that an HTTP server in Go does: it reads a body and sends it back. With -authzen it allows every
// AuthZEN evaluation instead, for enforcement points of others.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
)

// allowed allows an evaluation, or each of a batch.
func allowed(body []byte) []byte {
	var asked struct{ Evaluations []json.RawMessage }
	if json.Unmarshal(body, &asked) != nil || asked.Evaluations == nil {
		return []byte(`{"decision": true}`)
	}
	each := make([]map[string]bool, len(asked.Evaluations))
	for i := range each {
		each[i] = map[string]bool{"decision": true}
	}
	body, _ = json.Marshal(map[string]any{"evaluations": each})
	return body
}

func main() {
	address := flag.String("unix", "", "the socket to listen on")
	authzen := flag.Bool("authzen", false, "listen on a free TCP port, print it, and allow everything")
	flag.Parse()
	network := "unix"
	if *authzen {
		network, *address = "tcp", "127.0.0.1:0"
	}
	listener, err := net.Listen(network, *address)
	if err != nil {
		log.Fatal(err)
	}
	if *authzen {
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	}
	// The parent holds the other end: when it ends, in whatever way, so does this.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if *authzen {
			body = allowed(body)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})))
}
