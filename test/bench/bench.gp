# SPDX-License-Identifier: Apache-2.0
# bench.gp - the plot of bench.py's figures: gnuplot -e "dir='build/bench'" bench.gp
set style fill solid
set boxwidth 0.7
unset key
set logscale x 10
set xlabel "Go shim / nanoshim (logarithmic)"
set grid xtics
set ytics scale 0
data = dir . "/bench.dat"
stats data using 1:2 nooutput
set yrange [-0.7:STATS_max_y + 0.7]
set xrange [(STATS_min_x < 1 ? STATS_min_x / 1.2 : 0.9):STATS_max_x * 3]
set arrow from 1, graph 0 to 1, graph 1 nohead lw 1.5 lc rgb "#444444"
draw = "plot data using 1:2:(1):1:($2 - 0.35):($2 + 0.35):ytic(3) with boxxyerror lc rgb '#2a7fb8', data using ($1 * 1.06):2:(sprintf($1 < 10 ? '%.1f' : '%.0f', $1)) with labels left font ',9'"
set terminal svg size 900, 26 * (STATS_max_y + 4) font "sans,11" background rgb "white"
set output dir . "/bench.svg"
eval draw
set terminal pngcairo size 900, 26 * (STATS_max_y + 4) font "sans,10"
set output dir . "/bench.png"
eval draw
