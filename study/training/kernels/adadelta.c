#include <math.h>
#include <stdint.h>

/* One update of n parameters, as in torch.optim.Adadelta (Zeiler 2012, Algorithm 1). */
void adadelta(int64_t n, float *param, const float *grad, float *square_avg, float *acc_delta,
              float lr, float rho, float eps) {
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i];
        float square = rho * square_avg[i] + (1 - rho) * g * g;
        float delta = sqrtf((acc_delta[i] + eps) / (square + eps)) * g;
        square_avg[i] = square;
        acc_delta[i] = rho * acc_delta[i] + (1 - rho) * delta * delta;
        param[i] -= lr * delta;
    }
}
