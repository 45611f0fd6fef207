package main

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// The files of the data set that are read.
const (
	rawFile      = "raw.csv.gz"
	featuresFile = "features.csv.gz"
	goldenFile   = "golden.csv.gz"
)

// errNoData tells that the data set is not on this machine.
var errNoData = errors.New("the Handbook data set is absent")

// dataFolder finds the data set: where HANDBOOK_DATA says, else in
// ../shared/handbook beside the checkout. An error wraps errNoData where a file
// of it is missing.
func dataFolder() (string, error) {
	folder := os.Getenv("HANDBOOK_DATA")
	if folder == "" {
		root, err := checkout()
		if err != nil {
			return "", err
		}
		folder = filepath.Join(root, "..", "shared", "handbook")
	}
	for _, name := range []string{rawFile, featuresFile, goldenFile} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return "", fmt.Errorf("%w: %w; HANDBOOK_DATA names its folder", errNoData, err)
		}
	}
	return folder, nil
}

// checkout is the folder of go.mod, from here upwards.
func checkout() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		up := filepath.Dir(folder)
		if up == folder {
			return "", errors.New("no go.mod from here upwards: run it in the checkout, or set HANDBOOK_DATA")
		}
		folder = up
	}
}

// table is an open CSV file, gzipped, with named columns.
type table struct {
	name string
	file *os.File
	read atomic.Int64 // bytes of the file
	csv  *csv.Reader
	at   []int // the columns asked for
}

// openTable opens a file of the data set; next gives the columns in the order
// of columns.
func openTable(folder, name string, columns []string) (*table, error) {
	file, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	t := &table{name: name, file: file}
	if err := t.header(columns); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	return t, nil
}

func (t *table) header(columns []string) error {
	z, err := gzip.NewReader(io.TeeReader(t.file, counter{&t.read}))
	if err != nil {
		return err
	}
	t.csv = csv.NewReader(z)
	t.csv.ReuseRecord = true
	head, err := t.csv.Read()
	if err != nil {
		return err
	}
	for _, c := range columns {
		i := slices.Index(head, c)
		if i < 0 {
			return fmt.Errorf("no column %s", c)
		}
		t.at = append(t.at, i)
	}
	return nil
}

// next fills into with the next row's columns; io.EOF is the end.
func (t *table) next(into []string) error {
	all, err := t.csv.Read()
	if err != nil {
		return err
	}
	for i, at := range t.at {
		into[i] = all[at]
	}
	return nil
}

// size is the length of the file in bytes, as it is compressed.
func (t *table) size() int64 {
	info, err := t.file.Stat()
	if err != nil {
		return -1
	}
	return info.Size()
}

// Close closes the file.
func (t *table) Close() error { return t.file.Close() }

// fault says where an error occurred.
func (t *table) fault(err error) error {
	line, _ := t.csv.FieldPos(0)
	return fmt.Errorf("%s line %d: %w", t.name, line, err)
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// purchase is one row of raw.csv.gz.
type purchase struct {
	id                 string
	at                 payment.Time
	customer, terminal string
	cents              int64
	fraud              bool
}

var purchaseColumns = []string{"TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"}

// purchases reads raw.csv.gz to its end, in its order, which is that of time.
func (t *table) purchases() iter.Seq2[purchase, error] {
	return func(yield func(purchase, error) bool) {
		fields := make([]string, len(purchaseColumns))
		for {
			err := t.next(fields)
			if errors.Is(err, io.EOF) {
				return
			}
			var p purchase
			if err == nil {
				if p, err = parsePurchase(fields); err != nil {
					err = t.fault(err)
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func parsePurchase(f []string) (purchase, error) {
	at, errTime := parseTime(f[1])
	cents, errAmount := parseCents(f[4])
	fraud, errFraud := strconv.ParseBool(f[5])
	return purchase{id: f[0], at: at, customer: f[2], terminal: f[3], cents: cents, fraud: fraud}, cmp.Or(errTime, errAmount, errFraud)
}

// parseTime reads a time of the data set: whole seconds of UTC without a zone.
func parseTime(s string) (payment.Time, error) {
	t, err := time.Parse(time.DateTime, s)
	return payment.TimeOf(t), err
}

// parseCents reads an amount with exactly two decimals, without a detour over floats.
func parseCents(s string) (int64, error) {
	whole, decimals, _ := strings.Cut(s, ".")
	if len(decimals) != 2 {
		return 0, fmt.Errorf("amount %q has not two decimals", s)
	}
	return strconv.ParseInt(whole+decimals, 10, 64)
}
