//! The clauses of the contract.
//!
//! Each is a function that is handed a [`Harness`], makes the store that it needs, and panics if the store breaks the
//! clause. They use nothing but the [`Store`] trait, so they hold for a store that keeps rows in the tasks themselves
//! and for one that keeps them in another machine. Whether a clause that needs a second opening of the store runs
//! depends on [`Harness::again`]; whether dependencies and schedules must work or be refused, on the store's
//! [`Capability`](taskloom_store::Capability).
//!
//! [`conformance!`](crate::conformance!) turns them into tests. A clause that is missing from its list fails a test
//! of this crate.

use std::sync::Arc;

use taskloom_store::Store;

pub mod batches;
pub mod capability;
pub mod changes;
pub mod children;
pub mod claiming;
pub mod durable;
pub mod fencing;
pub mod inserting;
pub mod keys;
pub mod limits;
pub mod owners;
pub mod queues;
pub mod reading;
pub mod residents;
pub mod scheduling;
pub mod times;
pub mod unique;

/// Makes the stores that the clauses try.
pub trait Harness {
    /// An empty store.
    fn fresh(&self) -> Arc<dyn Store>;

    /// The place of the last fresh store, opened once more; the first opening may still be in use. `None` if what a
    /// store keeps ends with it.
    fn again(&self) -> Option<Arc<dyn Store>> {
        None
    }
}

/// Expands to one `#[test]` per clause of the contract. The expression is evaluated for each, and must give
/// something that implements [`Harness`](crate::Harness).
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        $crate::clauses! { $harness;
            inserting {
                a_task_is_kept_as_it_was_admitted
                first_states_are_kept
                a_group_is_inserted_as_a_whole_or_not_at_all
                a_duplicate_inside_a_group_refuses_the_group
                a_duplicate_across_groups_refuses_the_later_one
                what_a_refused_group_named_is_free
                an_id_stays_taken_when_its_task_has_ended
                a_duplicate_is_told_with_its_id
                payloads_survive_byte_for_byte
                results_survive_byte_for_byte
                unusual_texts_survive
                the_ends_of_time_survive
                nothing_is_inserted_by_nothing
            }
            claiming {
                queues_come_in_the_order_asked_for
                priority_comes_first_within_a_queue
                the_longest_eligible_comes_first_within_a_priority
                the_first_to_arrive_comes_first_of_equals
                no_more_than_the_limit
                only_for_the_named_handlers
                only_from_the_named_queues
                all_queues_alike_if_none_is_named
                only_queued_tasks
                a_claimed_task_runs_for_the_claimer
                a_claim_brings_the_whole_task
                a_task_is_claimed_once
                inserts_of_the_batch_are_seen
                commits_of_the_batch_are_seen
                a_known_task_is_claimed_by_a_commit
                each_claim_is_another_attempt
            }
            fencing {
                a_report_of_another_owner_is_refused
                a_report_of_another_attempt_is_refused
                a_report_about_a_task_that_does_not_run_is_refused
                the_stores_row_decides_and_not_the_callers
                an_old_copy_does_not_hide_the_running_attempt
                an_old_copy_does_not_bring_its_attempt_back
                an_old_copy_takes_nothing_back
                two_reports_in_one_batch
                a_cancel_and_a_report_in_one_batch
                a_refusal_names_the_attempt_and_the_state
            }
            changes {
                successes_that_are_told_together_are_as_those_told_one_by_one
                success_keeps_the_result
                failures_are_retried_and_kept
                a_permanent_failure_is_the_last
                an_error_may_ask_for_its_own_wait
                a_timeout_is_a_failure_that_ends_as_timed_out
                a_suspended_task_waits_for_its_signal
                a_sleeping_task_wakes_by_itself
                a_released_task_is_queued_at_no_cost
                progress_is_kept
                a_log_is_kept
                a_checkpoint_is_kept_over_retries_until_it_is_cleared
                a_crash_costs_no_retry_and_the_third_is_the_last
                cancelling_in_every_state
                a_closed_key_sends_a_task_back
                an_operator_may_skip_and_resolve
                a_replay_is_a_new_generation
                only_dead_letters_are_replayed
                a_replay_leaves_the_ended_task_alone
                a_replay_in_a_batch
                a_replayed_task_waits_for_its_key
                a_move_that_does_not_exist_is_refused
                effects_say_what_happened
            }
            batches {
                verdicts_come_in_the_order_of_the_commits
                a_refused_commit_does_not_harm_the_others
                a_refused_insert_does_not_harm_the_others
                a_task_is_inserted_and_changed_in_one_batch
                changes_of_one_task_see_each_other
                two_copies_of_a_task_in_one_batch
                what_a_change_spawns_comes_with_it
                what_a_refused_change_spawns_does_not_come
                a_spawned_duplicate_refuses_the_change
                a_spawned_group_is_inserted_as_a_whole
                a_spawned_task_can_be_changed_and_claimed_in_the_batch
                the_callers_tasks_show_what_was_committed
                an_empty_batch_does_nothing
            }
            unique {
                a_key_has_one_holder
                a_taken_key_gives_the_task_that_has_it
                a_taken_key_may_be_taken_over
                a_taken_key_may_refuse
                keys_are_the_handlers_own
                a_key_is_free_when_its_task_has_ended
                a_key_may_outlive_its_task
                a_key_that_outlived_its_task_is_taken_over
                a_key_that_outlived_its_task_keeps_it
                tasks_of_one_insert_see_each_other
                inserts_of_one_batch_see_each_other
                a_refused_insert_leaves_keys_and_holders_alone
                replacing_takes_the_children_along
                the_task_that_stands_in_is_the_one_in_memory
                a_claim_of_the_batch_sees_who_won
                plain_inserts_refuse_keys
            }
            keys {
                a_spawned_task_goes_by_its_key
                a_refused_change_leaves_keys_alone
                a_replay_needs_its_key_again
                racing_submitters_agree_on_one_task
                of_racing_submitters_one_is_accepted
                of_racing_replacements_one_is_left
            }
            children {
                a_child_comes_with_its_parents_note
                a_child_is_inserted_once
                a_late_attempt_has_no_children
                a_cancel_takes_the_children_along
                detached_children_live_on
                what_has_ended_stays_as_it_was
                other_ends_leave_the_children_alone
                only_ones_own_children_go
                children_of_the_batch_go_too
                a_cancel_and_a_submit_at_once
                children_in_memory_are_told_of
                a_deep_family_goes_as_a_whole
                a_finished_child_is_kept_while_its_parent_lives
            }
            limits {
                a_key_lets_so_many_run_at_once
                a_slot_comes_back_however_the_attempt_ends
                a_rate_lets_through_what_it_says
                the_time_at_which_a_key_opens_is_told
                keys_take_turns
                priorities_hold_within_a_key
                handlers_and_queues_have_limits_too
                a_closed_handler_holds_nobody_else_up
                a_limit_counts_what_runs_already
                a_limit_that_is_set_again_counts_anew
                what_was_held_up_and_claimed_is_not_let_in_again
                limits_change_while_tasks_run
                the_limit_that_holds
                a_postponed_key_waits
                what_waits_for_a_key_can_end
                what_has_no_room_cannot_be_hastened
                what_time_brings_waits_for_its_key_too
                one_claim_takes_from_many_keys
                a_claim_takes_what_it_lets_in
            }
            queues {
                a_paused_queue_is_left_out_of_claims
                pausing_says_whether_it_was_new
                any_queue_can_be_paused
                a_paused_queue_takes_tasks_and_times
            }
            times {
                nothing_happens_early
                an_eta_makes_eligible
                times_come_in_their_order
                no_more_than_the_limit_and_the_rest_is_told
                the_next_time_is_told
                what_is_not_started_expires
                what_has_started_does_not_expire
                a_deadline_stays_over_claims_and_retries
                a_deadline_ends_whatever_state_it_finds
                a_backoff_ends
                a_time_that_no_longer_counts_does_nothing
                a_change_is_told_once
            }
            owners {
                numbers_are_never_given_out_twice
                owners_are_listed_until_they_are_buried
                a_heart_beats
                an_owner_that_was_struck_off_cannot_beat
                an_owner_that_was_struck_off_claims_nothing
                burying_gives_back_what_the_owner_ran
                burying_leaves_the_others_alone
                burying_twice_does_nothing
                the_third_crash_is_the_last
                a_late_report_of_a_buried_owner_is_refused
            }
            reading {
                an_unknown_id_is_nothing
                lists_come_in_the_order_of_ids
                lists_are_filtered
                lists_know_tags_and_what_has_ended
                lists_are_read_page_by_page
                counts_are_by_state
                counts_are_by_queue
                sweeping_forgets_what_ended_before
                no_more_than_the_limit_is_swept
                dead_letters_are_listed
                what_has_ended_so_is_discarded
                what_is_needed_is_not_discarded
            }
            residents {
                a_claim_finds_the_task_in_memory
                a_claim_finds_the_task_of_its_own_batch
                times_and_burials_find_the_task_in_memory
                reading_finds_the_task_in_memory
                a_task_in_memory_shows_what_was_read
                a_settled_task_keeps_its_outcome
            }
            scheduling {
                a_schedule_is_kept_as_it_was_asked_for
                a_refused_change_leaves_the_schedule_alone
                a_tick_is_fired_once_whoever_races
                the_task_and_the_move_are_one_change
                a_tick_that_was_fired_is_found_again
                the_end_of_a_task_is_told_to_its_schedule
                an_overlapping_tick_is_skipped
                a_waiting_tick_is_due_when_the_last_task_ends
                a_replaced_task_is_cancelled
                a_trigger_leaves_the_next_tick
                due_schedules_come_in_order
            }
            durable {
                everything_outlives_the_store
                limits_hold_between_openings
                logs_and_progress_outlive_the_store
                schedules_outlive_the_store
                keys_and_pauses_hold_between_openings
                the_running_tasks_of_the_dead_go_to_the_living
                numbers_of_owners_are_not_given_out_again_later
                two_openings_see_each_other
                fencing_holds_between_openings
                a_task_goes_to_one_of_two_openings
                a_claim_elsewhere_is_seen_here
            }
            capability {
                what_was_promised_is_answered
                dependencies_are_kept_or_refused
                schedules_are_kept_or_refused
            }
        }
    };
}

/// One module per group, one test per clause. For [`conformance!`](crate::conformance!) only.
#[doc(hidden)]
#[macro_export]
macro_rules! clauses {
    ($harness:expr; $($group:ident { $($clause:ident)* })*) => {
        $(mod $group {
            // The harness is named where the macro is used.
            #[allow(unused_imports)]
            use super::*;

            $(#[test]
            fn $clause() {
                $crate::conformance::$group::$clause(&$harness);
            })*
        })*
    };
}

#[cfg(test)]
mod tests {
    /// A clause that nobody runs would be worse than none.
    #[test]
    fn every_clause_is_in_the_list() {
        let list = include_str!("conformance.rs");
        let groups = [
            ("inserting", include_str!("conformance/inserting.rs")),
            ("claiming", include_str!("conformance/claiming.rs")),
            ("fencing", include_str!("conformance/fencing.rs")),
            ("changes", include_str!("conformance/changes.rs")),
            ("batches", include_str!("conformance/batches.rs")),
            ("unique", include_str!("conformance/unique.rs")),
            ("keys", include_str!("conformance/keys.rs")),
            ("children", include_str!("conformance/children.rs")),
            ("limits", include_str!("conformance/limits.rs")),
            ("queues", include_str!("conformance/queues.rs")),
            ("times", include_str!("conformance/times.rs")),
            ("owners", include_str!("conformance/owners.rs")),
            ("reading", include_str!("conformance/reading.rs")),
            ("residents", include_str!("conformance/residents.rs")),
            ("scheduling", include_str!("conformance/scheduling.rs")),
            ("durable", include_str!("conformance/durable.rs")),
            ("capability", include_str!("conformance/capability.rs")),
        ];
        for (group, source) in groups {
            let (_, listed) = list.split_once(&format!("            {group} {{\n")).unwrap();
            let (listed, _) = listed.split_once('}').unwrap();
            let listed: Vec<&str> = listed.split_whitespace().collect();
            let written: Vec<&str> = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub fn "))
                .filter_map(|line| line.split_once('(').map(|(name, _)| name))
                .collect();
            assert_eq!(written, listed, "conformance/{group}.rs and the list of conformance! differ");
        }
    }
}
