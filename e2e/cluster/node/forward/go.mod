module slipway.dev/e2e/forward

go 1.24
