//! The functions over many rows that SQL may call.

use std::sync::Arc;

use datafusion_expr::AggregateUDF;
use datafusion_functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion_functions_aggregate::array_agg::array_agg_udaf;
use datafusion_functions_aggregate::average::avg_udaf;
use datafusion_functions_aggregate::bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf};
use datafusion_functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion_functions_aggregate::correlation::corr_udaf;
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::covariance::{covar_pop_udaf, covar_samp_udaf};
use datafusion_functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion_functions_aggregate::grouping::grouping_udaf;
use datafusion_functions_aggregate::median::median_udaf;
use datafusion_functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion_functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion_functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion_functions_aggregate::string_agg::string_agg_udaf;
use datafusion_functions_aggregate::sum::sum_udaf;
use datafusion_functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};

use super::planner::planner;

/// The function of this name.
pub(crate) fn aggregate_function(name: &str) -> Option<Arc<AggregateUDF>> {
    planner().aggregate(name)
}

/// All but those of regressions and sketches, which nobody has asked for and the module would carry.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    vec![
        approx_distinct_udaf(),
        array_agg_udaf(),
        avg_udaf(),
        bit_and_udaf(),
        bit_or_udaf(),
        bit_xor_udaf(),
        bool_and_udaf(),
        bool_or_udaf(),
        corr_udaf(),
        count_udaf(),
        covar_pop_udaf(),
        covar_samp_udaf(),
        first_value_udaf(),
        grouping_udaf(),
        last_value_udaf(),
        max_udaf(),
        median_udaf(),
        min_udaf(),
        percentile_cont_udaf(),
        stddev_pop_udaf(),
        stddev_udaf(),
        string_agg_udaf(),
        sum_udaf(),
        var_pop_udaf(),
        var_samp_udaf(),
    ]
}
