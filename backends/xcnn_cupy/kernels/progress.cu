// The end of a training step: its norms, the loss's scale for the next one, and the account of a span of steps.

// Steps that the device takes one after another, with nobody looking on. The first three count on from step to step.
struct Account {
    long long step;     // of the training: what random keys have
    long long first;    // of the next batch's samples, in their order
    long long updates;  // of the weights, in this span
    long long right;    // samples; a sum, as are the next two
    long long seen;     // samples
    double* losses;     // of each step of the span
    long long stopped;  // the step that was not to be taken, or -1
    double value, norm, reach;  // of the last step, or the one not taken: its loss, its gradients', its new weights' norm
};

// The sum of an array, by one block; given to each thread.
__device__ inline double total(const double* sums, int count) {
    double sum = 0;
    for (int n = threadIdx.x; n < count; n += blockDim.x) sum += sums[n];
    return block_sum(sum);
}

// The loss's scale, and how many steps went well since it changed; all null where there is none.
struct Scale {
    const float* scale;
    const long long* good;
    float* next_scale;
    long long* next_good;
    // It halves, but not below 1, where a gradient was not finite, and doubles, but not above 2^24, after 2000 good steps.
    __device__ void move(bool finite) const {
        float before = *scale;
        long long run = finite ? *good + 1 : 0;
        *next_scale = !finite ? max(before / 2, 1.0f) : run == 2000 ? min(before * 2, 16777216.0f) : before;
        *next_good = run == 2000 ? 0 : run;
    }
};

// The norms, from sums of squares: of the gradients, which are Squares, over the loss's scale, infinite where the weights'
// type T can't hold it, and of the new weights, infinite where T can't hold its square.
//
// With an account, a step of `samples` samples is entered, unless the span has stopped. It stops if the loss or a norm is
// not finite; but gradients that a scale above 1 may have made so only leave the update out. `loss` is of type T; `right`
// may be null.
template <typename T>
__global__ void finish(const double* gradient_sums, const double* weight_sums, int parts, Scale scale, const T* loss,
                       const long long* right, int samples, Account* account, double* gradient_norm,
                       double* weight_norm) {
    if (account && account->stopped >= 0) return;
    double largest = sizeof(T) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
    double norm = norm_of(gradient_sums, parts), room = total(weight_sums, parts);
    if (threadIdx.x > 0) return;
    double by = scale.scale ? *scale.scale : 1;
    norm /= by;
    if (norm > largest) norm = __uint_as_float(0x7f800000);
    double reach = room <= largest ? sqrt(room) : __uint_as_float(0x7f800000);
    *gradient_norm = norm, *weight_norm = reach;
    bool updated = is_finite(norm);
    if (account) {
        account->value = *loss, account->norm = norm, account->reach = reach;
        if (!is_finite(*loss) || !is_finite(reach) || !(updated || by > 1)) {
            account->stopped = account->step;
            return;
        }
        account->losses[account->seen / samples] = *loss;
        account->step += 1, account->first += samples, account->updates += updated;
        account->right += right ? *right : 0, account->seen += samples;
    }
    if (scale.scale) scale.move(updated);
}
