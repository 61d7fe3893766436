// A receiver of the lumberjack protocol made of go-lumber's server: writes each event as it came to a file, a line an
// event, on the disk before it is acknowledged.
package main

import (
	"bytes"
	"crypto/tls"
	"flag"
	"log"
	"os"
	"time"

	"github.com/elastic/go-lumber/server"
)

func main() {
	bind := flag.String("bind", "127.0.0.1:5044", "where to listen")
	out := flag.String("out", "events.ndjson", "the file to append to")
	cert := flag.String("cert", "", "certificate, PEM: with TLS")
	key := flag.String("key", "", "its key, PEM")
	delay := flag.Duration("delay", 0, "time between storing and acknowledging")
	flag.Parse()

	file, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	options := []server.Option{
		server.V1(false),
		server.V2(true),
		server.Keepalive(100 * time.Millisecond),
		// The bytes as they came, instead of what they mean.
		server.JSONDecoder(func(raw []byte, into interface{}) error {
			*into.(*interface{}) = bytes.Clone(raw)
			return nil
		}),
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, server.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	}
	receiver, err := server.ListenAndServe(*bind, options...)
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	for batch := range receiver.ReceiveChan() {
		var lines bytes.Buffer
		for _, event := range batch.Events {
			lines.Write(event.([]byte))
			lines.WriteByte('\n')
		}
		if _, err := file.Write(lines.Bytes()); err != nil {
			log.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			log.Fatal(err)
		}
		time.Sleep(*delay)
		batch.ACK()
	}
}
