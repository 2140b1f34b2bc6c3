"""The HTTP process: rank, reward, activity, and the catalogue behind them."""
