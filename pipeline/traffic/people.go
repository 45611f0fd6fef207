package traffic

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// person is somebody with habits: the first part never changes, the second is
// what the person is doing.
type person struct {
	account, email, phone string
	devices               [2]string // the second may be the first
	homeIP, mobileIP      string
	cards                 [2]card // the second may be the first
	balance               string  // the wallet
	usual                 float64 // what the person usually pays: the median, in fen
	byCard                float64 // how often by card and not from the balance
	homeLat, homeLon      float64
	auth                  []string
	index                 uint64
	rises                 int64 // hours later than most
	home                  uint8 // region

	place        uint8        // region where the person is, or will be on arrival
	arrives      payment.Time // there; nothing is paid on the way
	leaves       payment.Time // for home; 0 at home
	lat, lon     float64      // of the last payment with a place
	located      payment.Time // when that was; 0 is never
	transactions int          // so far
}

type card struct {
	token string
	bank  *bank
}

const (
	flightKMH = 800 // so that nobody travels faster than people do
	groundKMH = 50
)

func newPeople(rng *rand.Rand, n int, start payment.Time) []person {
	var total float64
	for i := range regions {
		total += regions[i].share
	}
	people := make([]person, n)
	for i := range people {
		u, home := rng.Float64()*total, 0
		for home < len(regions)-1 && u >= regions[home].share {
			u -= regions[home].share
			home++
		}
		people[i] = newPerson(rng, uint64(i), uint8(home))
	}
	for i := range people { // some are away already
		if p := &people[i]; n >= minTravellers && rng.Float64() < 0.04 {
			p.place = somewhereElse(rng, p.home)
			p.leaves = start.Add(time.Duration(rng.Float64() * 72 * float64(time.Hour)))
		}
	}
	return people
}

// minTravellers is how many people it takes for some to be away: with fewer,
// nobody might be left to pay.
const minTravellers = 100

func newPerson(rng *rand.Rand, index uint64, home uint8) person {
	r, number := &regions[home], strconv.FormatUint(10_000_000+index, 10)
	p := person{
		index: index, home: home, place: home,
		account: "u-" + number,
		email:   "p" + number + "@" + [...]string{"example.com", "example.net", "example.org"}[rng.IntN(3)],
		phone:   r.phone + "0" + number, // no subscriber's number begins with 0
		balance: "w-" + number,
		usual:   6000 * math.Exp(0.6*rng.NormFloat64()),
		byCard:  [...]float64{0.15, 0.5, 0.9}[rng.IntN(3)],
		auth:    authMethods[rng.IntN(len(authMethods))],
		rises:   int64(rng.IntN(4)) - 1,
		homeLat: r.lat + 0.06*rng.NormFloat64(),
		homeLon: r.lon + 0.06*rng.NormFloat64(),
	}
	p.devices[0] = newToken(rng, "d-")
	p.devices[1] = p.devices[0]
	if rng.Float64() < 0.35 {
		p.devices[1] = newToken(rng, "d-")
	}
	p.cards[0] = newCard(rng, home)
	p.cards[1] = p.cards[0]
	if rng.Float64() < 0.4 {
		p.cards[1] = newCard(rng, home)
	}
	if rng.IntN(2) == 0 {
		p.homeIP = "2001:db8:" + strconv.FormatUint(uint64(home), 16) + ":" + strconv.FormatUint(index&0xffff, 16) + "::1"
	} else {
		p.homeIP = cityAddress(home, rng.IntN(3840))
	}
	p.mobileIP = mobileAddress(rng, home)
	return p
}

// cityAddress is one of the 4,096 addresses of a city, out of the range that is
// set aside for benchmarks (198.18.0.0/15).
func cityAddress(region uint8, n int) string {
	at := int(region)*4096 + n
	return "198." + strconv.Itoa(18+at>>16) + "." + strconv.Itoa(at>>8&255) + "." + strconv.Itoa(at&255)
}

// mobileAddress is one of the addresses that many phones of a city share.
func mobileAddress(rng *rand.Rand, region uint8) string {
	return cityAddress(region, 3840+rng.IntN(256))
}

// newToken returns an identifier that was never seen and says nothing.
func newToken(rng *rand.Rand, prefix string) string {
	b := append(make([]byte, 0, 16), prefix...)
	for x, i := rng.Uint64(), 0; i < 11; i++ {
		b = append(b, "0123456789abcdefghjkmnpqrstvwxyz"[x&31])
		x >>= 5
	}
	return string(b)
}

func newCard(rng *rand.Rand, home uint8) card {
	issuer := &foreignBanks[rng.IntN(len(foreignBanks))]
	if regions[home].country == "CN" {
		issuer = &homeBanks[rng.IntN(len(homeBanks))]
	}
	return card{newToken(rng, "c-"), issuer}
}

func somewhereElse(rng *rand.Rand, here uint8) uint8 {
	return uint8((int(here) + 1 + rng.IntN(len(regions)-1)) % len(regions))
}

// hour returns the local hour where the person is, as the person lives it.
func (p *person) hour(now payment.Time) int {
	h := int64(now)/3600e9 + regions[p.place].zone - p.rises
	return int((h%24 + 24) % 24)
}

// somebody returns who pays next: a fifth of the people pays three times as
// often as the average, and those who are asleep pay seldom.
func (g *Generator) somebody(now payment.Time) *person {
	for try := 0; ; try++ {
		n := len(g.people)
		if g.rng.Uint32()&1 == 0 {
			n /= 5
		}
		p := &g.people[g.rng.IntN(n)]
		g.travel(p, now)
		if now < p.arrives {
			continue
		}
		if try >= 4 || g.rng.Float64() < awake[p.hour(now)] {
			return p
		}
	}
}

// travel lets a person leave for elsewhere or for home.
func (g *Generator) travel(p *person, now payment.Time) {
	to := p.home
	switch {
	case p.leaves != 0 && now >= p.leaves:
		p.leaves = 0
	case p.leaves == 0 && len(g.people) >= minTravellers && now >= p.arrives && g.rng.Float64() < 0.0002:
		to = somewhereElse(g.rng, p.home)
		p.leaves = now.Add(time.Duration((24 + 96*g.rng.Float64()) * float64(time.Hour)))
	default:
		return
	}
	from, dest := &regions[p.place], &regions[to]
	hours := 2 + distance(from.lat, from.lon, dest.lat, dest.lon)/flightKMH
	p.place = to
	p.arrives = now.Add(time.Duration(hours * float64(time.Hour)))
	if p.leaves != 0 {
		p.leaves = max(p.leaves, p.arrives.Add(12*time.Hour))
	}
}

// locate moves the person no faster than traffic allows, and returns where that
// is, to about ten metres.
func (g *Generator) locate(p *person, now payment.Time) (lat, lon float64) {
	lat, lon = p.homeLat, p.homeLon
	if p.place != p.home {
		lat, lon = regions[p.place].lat, regions[p.place].lon
	}
	lat += 0.03 * g.rng.NormFloat64()
	lon += 0.03 * g.rng.NormFloat64()
	if p.located > p.arrives && p.located != 0 { // was here before
		reach := groundKMH * time.Duration(now-p.located).Hours()
		if reach < 0.05 { // rounding would look like flying
			lat, lon = p.lat, p.lon
		}
		if d := distance(p.lat, p.lon, lat, lon); d > reach {
			lat = p.lat + (lat-p.lat)*reach/d
			lon = p.lon + (lon-p.lon)*reach/d
		}
	}
	p.lat, p.lon, p.located = math.Round(lat*1e4)/1e4, math.Round(lon*1e4)/1e4, now
	return p.lat, p.lon
}

// typical is the mean of what the person pays in shops and online, in fen.
func (p *person) typical() float64 { return p.usual * 1.25 }
