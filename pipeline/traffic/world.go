package traffic

import "math"

// region is a city where people live and merchants sell.
type region struct {
	country, currency, locale string
	lat, lon                  float64 // degrees, of its centre
	zone                      int64   // hours ahead of UTC, without summer time
	share                     float64 // of the people
	phone                     string  // calling code
}

var regions = [...]region{
	{"CN", "CNY", "zh-CN", 31.23, 121.47, 8, 15, "+86"}, // Shanghai
	{"CN", "CNY", "zh-CN", 39.90, 116.41, 8, 13, "+86"}, // Beijing
	{"CN", "CNY", "zh-CN", 23.13, 113.26, 8, 11, "+86"}, // Guangzhou
	{"CN", "CNY", "zh-CN", 22.54, 114.06, 8, 10, "+86"}, // Shenzhen
	{"CN", "CNY", "zh-CN", 30.57, 104.07, 8, 9, "+86"},  // Chengdu
	{"CN", "CNY", "zh-CN", 30.27, 120.16, 8, 8, "+86"},  // Hangzhou
	{"CN", "CNY", "zh-CN", 30.59, 114.31, 8, 7, "+86"},  // Wuhan
	{"CN", "CNY", "zh-CN", 34.34, 108.94, 8, 6, "+86"},  // Xi'an
	{"HK", "HKD", "zh-HK", 22.32, 114.17, 8, 5, "+852"}, // Hong Kong
	{"SG", "SGD", "en-SG", 1.35, 103.82, 8, 2, "+65"},   // Singapore
	{"MY", "MYR", "ms-MY", 3.14, 101.69, 8, 2, "+60"},   // Kuala Lumpur
	{"TH", "THB", "th-TH", 13.76, 100.50, 7, 2, "+66"},  // Bangkok
	{"JP", "JPY", "ja-JP", 35.68, 139.69, 9, 3, "+81"},  // Tokyo
	{"KR", "KRW", "ko-KR", 37.57, 126.98, 9, 1, "+82"},  // Seoul
	{"FR", "EUR", "fr-FR", 48.86, 2.35, 1, 2, "+33"},    // Paris
	{"DE", "EUR", "de-DE", 52.52, 13.41, 1, 1, "+49"},   // Berlin
	{"GB", "GBP", "en-GB", 51.51, -0.13, 0, 1, "+44"},   // London
	{"US", "USD", "en-US", 40.71, -74.01, -5, 2, "+1"},  // New York
	{"US", "USD", "en-US", 34.05, -118.24, -8, 1, "+1"}, // Los Angeles
	{"AU", "AUD", "en-AU", -33.87, 151.21, 10, 1, "+61"},
}

// rates holds what one unit of a currency is worth in CNY: roughly, since it
// only makes foreign prices plausible.
var rates = map[string]float64{
	"CNY": 1, "HKD": 0.91, "SGD": 5.30, "MYR": 1.60, "THB": 0.21, "JPY": 0.047, "KRW": 0.0052,
	"EUR": 7.80, "GBP": 9.10, "USD": 7.10, "AUD": 4.70,
}

// distance returns kilometres along the great circle between two places in degrees.
func distance(lat1, lon1, lat2, lon2 float64) float64 {
	const earth, rad = 6371, math.Pi / 180
	dLat, dLon := (lat2-lat1)*rad/2, (lon2-lon1)*rad/2
	a := math.Sin(dLat)*math.Sin(dLat) + math.Cos(lat1*rad)*math.Cos(lat2*rad)*math.Sin(dLon)*math.Sin(dLon)
	return 2 * earth * math.Asin(math.Sqrt(min(a, 1)))
}

// awake is how likely a person is to pay in each local hour, as a share of the
// busiest. It decides who pays, never whether somebody does.
var awake = [24]float64{
	0.22, 0.15, 0.12, 0.10, 0.10, 0.15, 0.30, 0.55, 0.80, 0.75, 0.80, 0.95,
	1.00, 0.85, 0.70, 0.70, 0.75, 0.90, 1.00, 1.00, 0.95, 0.85, 0.65, 0.40,
}

// category is what a merchant sells and where it can be paid.
type category struct {
	mcc     string
	factor  float64 // of what a person usually pays
	share   float64 // of the merchants
	shop    bool    // has terminals: qr, pos, face
	online  bool    // web, in_app, mini_program
	channel string  // the only channel, of bill and transit
}

// The categories that scenes ask for by name.
const (
	categoryElectronics = 7
	categoryTransit     = 15
	categoryUtility     = 16
)

var categories = [...]category{
	{mcc: "5812", factor: 1.1, share: 16, shop: true},               // restaurants
	{mcc: "5814", factor: 0.6, share: 10, shop: true, online: true}, // fast food
	{mcc: "5411", factor: 1.2, share: 12, shop: true},               // groceries
	{mcc: "5499", factor: 0.5, share: 12, shop: true},               // convenience stores
	{mcc: "5912", factor: 0.9, share: 4, shop: true},                // pharmacies
	{mcc: "5541", factor: 1.9, share: 4, shop: true},                // fuel
	{mcc: "5651", factor: 1.6, share: 8, shop: true, online: true},  // clothing
	{mcc: "5732", factor: 2.2, share: 4, shop: true, online: true},  // electronics
	{mcc: "5311", factor: 1.2, share: 10, online: true},             // marketplaces
	{mcc: "5816", factor: 0.6, share: 6, online: true},              // games
	{mcc: "4121", factor: 0.6, share: 4, online: true},              // rides
	{mcc: "4722", factor: 2.3, share: 2, online: true},              // travel agents
	{mcc: "7832", factor: 0.9, share: 3, online: true},              // cinemas
	{mcc: "7011", factor: 2.2, share: 2, shop: true, online: true},  // hotels
	{mcc: "5944", factor: 2.5, share: 1, shop: true},                // jewellery
	{mcc: "4111", factor: 1, share: 1, channel: "transit"},          // public transport
	{mcc: "4900", factor: 1, share: 1, channel: "bill"},             // electricity, water, gas
	{mcc: "4814", factor: 1, share: 1, channel: "bill"},             // telephone
}

// bank issues cards under a number of its own.
type bank struct{ name, bin string }

var (
	homeBanks    = [...]bank{{"icbc", "622202"}, {"ccb", "622700"}, {"abc", "622848"}, {"boc", "621660"}, {"cmb", "622588"}, {"psbc", "622188"}}
	foreignBanks = [...]bank{{"hsbc", "405010"}, {"dbs", "411911"}, {"mufg", "453420"}, {"kbank", "417628"}, {"bnp", "497040"}, {"barclays", "465858"}, {"chase", "414720"}, {"anz", "456471"}}
	authMethods  = [...][]string{{"password"}, {"fingerprint"}, {"face"}, {"password", "fingerprint"}, {"password", "otp"}}
)
